#include "textflag.h"

// func spin(n uint64)
TEXT ·spin(SB), NOSPLIT, $0-8
	MOVQ n+0(FP), CX
loop:
	DECL CX
	JNZ  loop
	RET
