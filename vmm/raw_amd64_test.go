package vmm_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"warder/vmm"
)

var (
	// outb(0x600, S5<<2 | SLP_EN)
	codePowerOff = []byte{
		0x66, 0xba, 0x00, 0x06, // mov $0x600, %dx
		0xb0, 5<<2 | 1<<5, // mov $0x34, %al
		0xee,       // out %al, (%dx)
		0xeb, 0xfe, // jmp .
	}

	// No handlers are set: an undefined instruction faults three times.
	codeTripleFault = []byte{0x0f, 0x0b} // ud2

	// A store of 512 bytes where no memory is, which KVM can't emulate.
	codeCrash = []byte{
		0xb8, 0xef, 0xbe, 0xad, 0xde, // mov $0xdeadbeef, %eax
		0xbb, 0x00, 0x00, 0x80, 0xd0, // mov $0xd0800000, %ebx
		0x0f, 0xae, 0x03, // fxsave (%rbx)
	}
	crashInstruction = "fxsave"
	crashRegister    = "rax    00000000deadbeef"

	codeSpin = []byte{0xeb, 0xfe}

	codeStrayStorm = []byte{
		0xe6, 0x99, // out %al, $0x99
		0xeb, 0xfc, // jmp to it
	}

	// Calls a function that a hook does the work of.
	codeTrapStorm = []byte{
		0xbc, 0x00, 0x00, 0x00, 0x02, // mov $0x2000000, %esp
		0xe8, 0x02, 0x00, 0x00, 0x00, // call the hook
		0xeb, 0xf9, // jmp to the call
		0xe6, 0xea, 0x90, 0x90, 0x90, // the hook
	}

	// Starts the watchdog with a count of 10, and forgets it.
	codeWatchdog = []byte{
		0xbb, 0x00, 0x00, 0x11, 0xd0, // mov $0xd0110000, %ebx
		0xc7, 0x03, 0x0a, 0x00, 0x00, 0x00, // movl $10, (%rbx)
		0xc7, 0x43, 0x08, 0x03, 0x00, 0x00, 0x00, // movl $3, 8(%rbx)
		0xeb, 0xfe, // jmp .
	}

	// A store to 4 GiB, where memory may be plugged, through a large page that
	// it maps there first; then power off.
	codeUnplugged = append([]byte{
		0x0f, 0x20, 0xd8, // mov %cr3, %rax
		0x48, 0x8b, 0x00, // mov (%rax), %rax: the first page directory pointer table
		0x48, 0x25, 0x00, 0xf0, 0xff, 0xff, // and $~0xfff, %rax
		0xc7, 0x40, 0x20, 0x03, 0x00, 0x00, 0x03, // movl $0x3000003, 0x20(%rax)
		0xc7, 0x40, 0x24, 0x00, 0x00, 0x00, 0x00, // movl $0, 0x24(%rax)
		0xbb, 0x00, 0x00, 0x00, 0x03, // mov $0x3000000, %ebx: a page directory
		0xc7, 0x03, 0x83, 0x00, 0x00, 0x00, // movl $0x83, (%rbx)
		0xc7, 0x43, 0x04, 0x01, 0x00, 0x00, 0x00, // movl $1, 4(%rbx)
		0x48, 0xbb, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, // mov $0x100000000, %rbx
		0x48, 0x89, 0x03, // mov %rax, (%rbx)
	}, codePowerOff...)
)

// codeTrap calls a function that has a hook at its start and returns 1. If it
// did, the guest powers off, else it resets.
var codeTrap = func() []byte {
	var c []byte
	emit := func(b ...byte) { c = append(c, b...) }
	emit(0xbc, 0x00, 0x00, 0x00, 0x02) // mov $0x2000000, %esp
	emit(0xbf, 0x34, 0x12, 0x00, 0x00) // mov $0x1234, %edi
	emit(0xe8, 0, 0, 0, 0)             // call function
	call := len(c)
	emit(0x48, 0x83, 0xf8, 0x01)    // cmp $1, %rax
	emit(0x66, 0xba, 0x00, 0x06)    // mov $0x600, %dx
	emit(0xb0, 5<<2|1<<5)           // mov $0x34, %al
	emit(0x74, 0x06)                // je 1f
	emit(0x66, 0xba, 0x02, 0x06)    // mov $0x602, %dx
	emit(0xb0, 0x42)                // mov $0x42, %al
	emit(0xee, 0xeb, 0xfe)          // 1: out %al, (%dx); jmp .
	c[call-4] = byte(len(c) - call) // function:
	emit(0xe6, 0xea, 0x90, 0x90, 0x90)
	emit(0xb8, 0x01, 0x00, 0x00, 0x00) // mov $1, %eax
	emit(0xc3)                         // ret
	return c
}()

// declined is how codeTrap ends when its hook is no hook: the write to the port
// has no effect.
const declined = vmm.PowerOff

// TestTripleFault expects no registers: on AMD, KVM has reset them by then.
func TestTripleFault(t *testing.T) {
	e := ended(t, raw(t, codeTripleFault))
	if e.Reason != vmm.Crashed || e.Report == nil || !strings.Contains(e.String(), "triple fault") {
		t.Errorf("ended by %v", e)
	}
}

// codeActs asks for the version of hypercalls, makes one of its own, touches a
// port and an address where nothing is and writes registers. It powers off if the
// results are right, else it resets.
var codeActs = func() []byte {
	var c []byte
	emit := func(b ...byte) { c = append(c, b...) }
	var fails []int
	failUnless := func() { // jne 9f
		emit(0x0f, 0x85, 0, 0, 0, 0)
		fails = append(fails, len(c))
	}
	emit(0x31, 0xc0)             // xor %eax, %eax
	emit(0xe7, 0xeb)             // out %eax, $0xeb: the version
	emit(0x48, 0x83, 0xf8, 0x01) // cmp $1, %rax
	failUnless()
	emit(0xb8, 0x01, 0x00, 0x00, 0x00)       // mov $1, %eax
	emit(0xbf, 0x77, 0x00, 0x00, 0x00)       // mov $0x77, %edi
	emit(0x31, 0xf6, 0x31, 0xd2, 0x31, 0xc9) // xor %esi, %esi; %edx; %ecx
	emit(0xe7, 0xeb)                         // out %eax, $0xeb
	emit(0x48, 0x83, 0xf8, 0x78)             // cmp $0x78, %rax
	failUnless()
	emit(0xb0, 0x5a, 0xe6, 0x99)                               // mov $0x5a, %al; out %al, $0x99
	emit(0xbb, 0x00, 0x00, 0x90, 0xd0)                         // mov $0xd0900000, %ebx
	emit(0x8b, 0x03)                                           // mov (%rbx), %eax
	emit(0xb9, 0x82, 0x00, 0x00, 0xc0)                         // mov $0xc0000082, %ecx
	emit(0xb8, 0x78, 0x56, 0x34, 0x12, 0x31, 0xd2, 0x0f, 0x30) // mov $0x12345678, %eax; xor %edx, %edx; wrmsr
	emit(0x31, 0xc0, 0x0f, 0x32)                               // xor %eax, %eax; rdmsr
	emit(0x3d, 0x78, 0x56, 0x34, 0x12)                         // cmp $0x12345678, %eax
	failUnless()
	c = append(c, codePowerOff...)
	for _, at := range fails {
		binary.LittleEndian.PutUint32(c[at-4:], uint32(len(c)-at))
	}
	emit(0x66, 0xba, 0x02, 0x06, 0xb0, 0x42, 0xee, 0xeb, 0xfe) // 9: mov $0x602, %dx; mov $0x42, %al; out %al, (%dx); jmp .
	return c
}()

func wantActs(t *testing.T) []vmm.Act {
	t.Helper()
	return []vmm.Act{
		{Kind: vmm.Hypercall, Value: vmm.HypercallMark, Args: [4]uint64{0x77}},
		{Kind: vmm.Stray, Addr: 0x99, Port: true, Write: true, Size: 1, Value: 0x5a},
		{Kind: vmm.Stray, Addr: 0xd090_0000, Size: 4},
		{Kind: vmm.RegisterWrite, Name: "LSTAR", Value: 0x1234_5678},
	}
}
