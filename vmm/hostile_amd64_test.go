package vmm_test

import (
	"encoding/binary"
	"math/rand/v2"
)

// attackRAM is where RAM starts.
const attackRAM = 0

// attacker carries out the n steps of the script at attackScript, again and again.
func attacker(n uint32) []byte {
	code := []byte{
		0xbe, 0, 0, 0, 0, // mov $script, %esi
		0xb9, 0, 0, 0, 0, // mov $n, %ecx
		0x48, 0x8b, 0x3e, // next: mov (%rsi), %rdi
		0x8b, 0x46, 0x08, // mov 8(%rsi), %eax
		0x8b, 0x5e, 0x0c, // mov 12(%rsi), %ebx
		0x83, 0xeb, 0x01, // sub $1, %ebx
		0x72, 0x1a, // jb store32
		0x74, 0x1c, // je load32
		0x83, 0xeb, 0x02, // sub $2, %ebx
		0x72, 0x1b, // jb store16
		0x74, 0x1e, // je store8
		0x83, 0xeb, 0x02, // sub $2, %ebx
		0x72, 0x1d, // jb store64
		0x74, 0x20, // je features
		0x89, 0xfa, // mov %edi, %edx
		0x83, 0xeb, 0x02, // sub $2, %ebx
		0x72, 0x20, // jb out
		0xec,       // in (%dx), %al
		0xeb, 0x1e, // jmp done
		0x89, 0x07, // store32: mov %eax, (%rdi)
		0xeb, 0x1a, // jmp done
		0x8b, 0x07, // load32: mov (%rdi), %eax
		0xeb, 0x16, // jmp done
		0x66, 0x89, 0x07, // store16: mov %ax, (%rdi)
		0xeb, 0x11, // jmp done
		0x88, 0x07, // store8: mov %al, (%rdi)
		0xeb, 0x0d, // jmp done
		0x48, 0x89, 0x07, // store64: mov %rax, (%rdi)
		0xeb, 0x08, // jmp done
		0x23, 0x07, // features: and (%rdi), %eax
		0x89, 0x47, 0x10, // mov %eax, 16(%rdi)
		0xeb, 0x01, // jmp done
		0xee,                   // out: out %al, (%dx)
		0x48, 0x83, 0xc6, 0x10, // done: add $16, %rsi
		0xff, 0xc9, // dec %ecx
		0x75, 0xb2, // jne next
		0xeb, 0xa6, // jmp start
	}
	binary.LittleEndian.PutUint32(code[1:], attackScript)
	binary.LittleEndian.PutUint32(code[6:], n)
	return code
}

// ports are those of devices, of the kernel's interrupt controllers and timer, of
// the hooks, and of nothing; without those that end the machine.
var ports = []uint64{0x20, 0x21, 0x40, 0x43, 0x61, 0x70, 0x71, 0x80, 0xa0, 0xa1, 0xea, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0xcf8, 0xcfc}

// platform does something to what is no virtio device.
func (s *script) platform(random *rand.Rand) {
	switch random.IntN(3) {
	case 0:
		s.add(ports[random.IntN(len(ports))], random.Uint32(), out)
	case 1:
		s.add(ports[random.IntN(len(ports))], 0, in)
	case 2: // the event device, the watchdog, the interrupt controllers, what is around them
		base := []uint64{0xd010_0000, 0xd011_0000, 0xfec0_0000, 0xfee0_0000, 0xfeff_c000, 0xc000_0000}[random.IntN(6)]
		s.add(base+uint64(random.IntN(0x400))&^3, random.Uint32(), width(random))
	}
}
