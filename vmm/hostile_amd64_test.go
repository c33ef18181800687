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

// secondAt is where the second vCPU starts, in real mode.
const secondAt = 0xb0000

// secondCode takes the second vCPU to 32-bit mode and has it do as the first: what
// attacker has of 64 bits is a DEC of a register in 32, which does no harm there.
var secondCode = []byte{
	0xfa,                                     // cli
	0x2e, 0x66, 0x0f, 0x01, 0x16, 0x29, 0x00, // lgdtl %cs:gdtr
	0x0f, 0x20, 0xc0, // mov %cr0, %eax
	0x0c, 0x01, // or $1, %al
	0x0f, 0x22, 0xc0, // mov %eax, %cr0
	0x66, 0xea, 0x18, 0x00, 0x0b, 0x00, 0x08, 0x00, // ljmpl $8, $flat
	0x66, 0xb8, 0x10, 0x00, // flat: mov $16, %ax
	0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // mov %ax, %ds; mov %ax, %es; mov %ax, %ss
	0xb8, 0x00, 0x00, 0x00, 0x01, // mov $rawBase, %eax
	0xff, 0xe0, // jmp *%eax
	0x17, 0x00, 0x30, 0x00, 0x0b, 0x00, 0x90, // gdtr: gdt, 24 bytes
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // gdt: nothing, code, data
	0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,
	0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,
}

// wakeSecond has the first vCPU start the second: INIT, then SIPI, by its local
// APIC.
func (s *script) wakeSecond() {
	const icr, id = 0xfee0_0300, 1
	for _, command := range []uint32{0x4500, 0x4600 | secondAt>>12} {
		s.store(icr+0x10, id<<24)
		s.store(icr, command)
	}
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
