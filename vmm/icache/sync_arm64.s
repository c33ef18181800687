#include "textflag.h"

// func syncLine(addr unsafe.Pointer)
//
// Cleans the data cache and invalidates the instruction cache for one line, as
// the Arm ARM demands after code has been written (DDI 0487, B2.4.4). Linux
// lets EL0 do both.
TEXT ·syncLine(SB), NOSPLIT, $0-8
	MOVD addr+0(FP), R0
	WORD $0xd50b7b20 // dc cvau, x0
	WORD $0xd5033b9f // dsb ish
	WORD $0xd50b7520 // ic ivau, x0
	WORD $0xd5033b9f // dsb ish
	ISB  $15
	RET
