package vmm_test

import (
	"encoding/binary"
	"math/rand/v2"

	"warder/internal/testkernel"
)

// attackRAM is where RAM starts.
const attackRAM = 0

// The second vCPU begins in real mode (Intel SDM 3A, 9.4), in a page below 1 MiB
// that nothing else is in.
const (
	secondStart  = 0x40000
	secondVector = secondStart >> 12
	secondCR3    = secondStart + 18 // where the first puts its page tables' address
	secondGDT    = 0x80             // from secondStart
)

// attacker carries out the n steps of a vCPU's script, again and again.
func attacker(n uint32) []byte {
	code := []byte{
		0x0f, 0x20, 0xd8, // mov %cr3, %rax
		0x89, 0x04, 0x25, 0, 0, 0, 0, // mov %eax, secondCR3
		0x41, 0xb8, 0, 0, 0, 0, // mov $script(0), %r8d
		0xbb, 0x00, 0x00, 0xe0, 0xfe, // mov $0xfee00000, %ebx: the local APIC
		0xc7, 0x83, 0x00, 0x03, 0x00, 0x00, 0x00, 0x45, 0x0c, 0x00, // movl $INIT to all others, 0x300(%rbx)
		// Who was stopped by the other's script is started again each time.
		0xbb, 0x00, 0x00, 0xe0, 0xfe, // start: mov $0xfee00000, %ebx
		0xc7, 0x83, 0x00, 0x03, 0x00, 0x00, secondVector, 0x46, 0x0c, 0x00, // movl $STARTUP to all others, 0x300(%rbx)
		0x44, 0x89, 0xc6, // mov %r8d, %esi
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
		0xeb, 0x99, // jmp start
	}
	binary.LittleEndian.PutUint32(code[6:], secondCR3)
	binary.LittleEndian.PutUint32(code[12:], scriptOf(0))
	binary.LittleEndian.PutUint32(code[50:], n)
	return code
}

// attackerStart is where attacker starts over.
const attackerStart = testkernel.RawBase + 31

// secondAttacker is what the second vCPU begins with, and where that is: it enters
// the first's address space and goes on where attacker starts over.
func secondAttacker() (code []byte, at uint64) {
	code = []byte{
		0xfa,                                      // cli
		0x2e, 0x0f, 0x01, 0x16, secondGDT + 24, 0, // lgdt %cs:secondGDT+24
		0x66, 0xb8, 0x20, 0x00, 0x00, 0x00, // mov $PAE, %eax
		0x0f, 0x22, 0xe0, // mov %eax, %cr4
		0x66, 0xb8, 0, 0, 0, 0, // mov $page tables, %eax
		0x0f, 0x22, 0xd8, // mov %eax, %cr3
		0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov $EFER, %ecx
		0x0f, 0x32, // rdmsr
		0x66, 0x0d, 0x00, 0x01, 0x00, 0x00, // or $LME, %eax
		0x0f, 0x30, // wrmsr
		0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, // mov $PG|PE, %eax
		0x0f, 0x22, 0xc0, // mov %eax, %cr0
		0x66, 0xea, 0, 0, 0, 0, 0x08, 0x00, // ljmp $8, long
		0xb8, 0x10, 0x00, 0x00, 0x00, // long: mov $16, %eax
		0x8e, 0xd8, // mov %eax, %ds
		0x41, 0xb8, 0, 0, 0, 0, // mov $script(1), %r8d
		0xb8, 0, 0, 0, 0, // mov $start, %eax
		0xff, 0xe0, // jmp *%rax
	}
	const jump, long = 52, 58
	le := binary.LittleEndian
	le.PutUint32(code[jump:], secondStart+long)
	le.PutUint32(code[long+9:], scriptOf(1))
	le.PutUint32(code[long+14:], attackerStart)
	code = append(code, make([]byte, secondGDT-len(code))...)
	for _, segment := range []uint64{0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff} { // none, 64-bit code, data
		code = le.AppendUint64(code, segment)
	}
	code = le.AppendUint16(code, 3*8-1)
	return le.AppendUint32(code, secondStart+secondGDT), secondStart
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
