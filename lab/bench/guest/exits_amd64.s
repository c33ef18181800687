#include "textflag.h"

// func writePort()
TEXT ·writePort(SB), NOSPLIT, $0-0
	XORL AX, AX
	BYTE $0xe6; BYTE $0x70 // out %al, $0x70
	RET
