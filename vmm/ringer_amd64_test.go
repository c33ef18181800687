package vmm_test

import "encoding/binary"

// ringer stores what steps says, up to a step to address 0, then makes ringBatch chains
// available by the index at avail, rings at notify, waits for the index at used, and
// does so again.
func ringer(steps, avail, used, notify uint32) []byte {
	code := []byte{0xbe} // mov $steps, %esi
	code = binary.LittleEndian.AppendUint32(code, steps)
	code = append(code,
		0x48, 0x8b, 0x3e, // next: mov (%rsi), %rdi
		0x8b, 0x46, 0x08, // mov 8(%rsi), %eax
		0x83, 0xc6, 0x10, // add $16, %esi
		0x48, 0x85, 0xff, // test %rdi, %rdi
		0x74, 0x04, // je up
		0x89, 0x07, // mov %eax, (%rdi)
		0xeb, 0xee, // jmp next
		0xbb, // up: mov $avail, %ebx
	)
	code = append(binary.LittleEndian.AppendUint32(code, avail), 0xbd) // mov $used, %ebp
	code = append(binary.LittleEndian.AppendUint32(code, used), 0xbf)  // mov $notify, %edi
	return append(binary.LittleEndian.AppendUint32(code, notify),
		0x66, 0x83, 0x03, ringBatch, // ring: addw $ringBatch, (%rbx)
		0xc7, 0x07, 0x00, 0x00, 0x00, 0x00, // movl $0, (%rdi)
		0x0f, 0xb7, 0x03, // movzwl (%rbx), %eax
		0x66, 0x39, 0x45, 0x00, // wait: cmp %ax, (%rbp)
		0x74, 0xed, // je ring
		0xf3, 0x90, // pause
		0xeb, 0xf6, // jmp wait
	)
}
