package kvm

// Reg is the id of a register in KVM_GET_ONE_REG and KVM_SET_ONE_REG: "arm64
// registers are mapped using the lower 32 bits. The upper 16 of that is the
// register group type, or coprocessor number", and "the upper 32 bits" hold the
// architecture and, in bits 52 to 55, log2 of the size in bytes.
type Reg uint64

// Size is the register's size in bytes, 1 to 2048.
func (r Reg) Size() int { return 1 << (r >> regSizeShift & 15) }

const (
	regARM64     Reg = 0x6000000000000000 // KVM_REG_ARM64
	regSizeShift     = 52
	regU32       Reg = 2 << regSizeShift
	regU64       Reg = 3 << regSizeShift
	regU128      Reg = 4 << regSizeShift

	// The groups.
	regCore     Reg = 0x0010 << 16 // KVM_REG_ARM_CORE
	regSysreg   Reg = 0x0013 << 16 // KVM_REG_ARM64_SYSREG
	regFirmware Reg = 0x0014 << 16 // KVM_REG_ARM_FW
)

// Core registers: "arm64 core/FP-SIMD registers have the following id bit
// patterns [...] 0x60x0 0000 0010 <index into the kvm_regs struct:16>", an
// index in units of 32 bits. struct kvm_regs is x0 to x30, sp, pc, pstate,
// sp_el1, elr_el1, spsr[5], padding, 32 vector registers of 128 bits, fpsr, fpcr.
const (
	RegX0      = regARM64 | regU64 | regCore
	RegLR      = RegX0 + 2*30 // x30
	RegSPEL0   = RegX0 + 2*31 // user_pt_regs.sp
	RegPC      = RegX0 + 2*32
	RegPState  = RegX0 + 2*33
	RegSPEL1   = RegX0 + 2*34
	RegELREL1  = RegX0 + 2*35
	RegSPSREL1 = RegX0 + 2*36
	RegV0      = regARM64 | regU128 | regCore | 84
	RegFPSR    = regARM64 | regU32 | regCore | 84 + 4*32
	RegFPCR    = RegFPSR + 1
)

// RegX is general-purpose register n, 0 to 30.
func RegX(n int) Reg { return RegX0 + 2*Reg(n) }

// RegV is vector register n, 0 to 31: 128 bits. Not there with SVE.
func RegV(n int) Reg { return RegV0 + 4*Reg(n) }

// SysReg is the system register of that encoding, the operands of MRS and MSR:
// "0x6030 0000 0013 <op0:2> <op1:3> <crn:4> <crm:4> <op2:3>".
func SysReg(op0, op1, crn, crm, op2 uint8) Reg {
	return regARM64 | regU64 | regSysreg |
		Reg(op0&3)<<14 | Reg(op1&7)<<11 | Reg(crn&15)<<7 | Reg(crm&15)<<3 | Reg(op2&7)
}

// System registers, by the encodings of the Arm Architecture Reference Manual,
// chapter D19: bits 14 op0, 11 op1, 7 CRn, 3 CRm, 0 op2 (left out where zero).
const (
	sys = regARM64 | regU64 | regSysreg | 3<<14

	RegMIDREL1     = sys | 0<<7 | 0<<3
	RegMPIDREL1    = sys | 0<<7 | 0<<3 | 5
	RegIDAA64PFR0  = sys | 0<<7 | 4<<3
	RegIDAA64PFR1  = sys | 0<<7 | 4<<3 | 1
	RegIDAA64DFR0  = sys | 0<<7 | 5<<3
	RegIDAA64ISAR0 = sys | 0<<7 | 6<<3
	RegIDAA64ISAR1 = sys | 0<<7 | 6<<3 | 1
	RegIDAA64MMFR0 = sys | 0<<7 | 7<<3
	RegIDAA64MMFR1 = sys | 0<<7 | 7<<3 | 1
	RegIDAA64MMFR2 = sys | 0<<7 | 7<<3 | 2

	RegSCTLREL1      = sys | 1<<7 | 0<<3
	RegCPACREL1      = sys | 1<<7 | 0<<3 | 2
	RegTTBR0EL1      = sys | 2<<7 | 0<<3
	RegTTBR1EL1      = sys | 2<<7 | 0<<3 | 1
	RegTCREL1        = sys | 2<<7 | 0<<3 | 2
	RegAFSR0EL1      = sys | 5<<7 | 1<<3
	RegAFSR1EL1      = sys | 5<<7 | 1<<3 | 1
	RegESREL1        = sys | 5<<7 | 2<<3
	RegFAREL1        = sys | 6<<7 | 0<<3
	RegPAREL1        = sys | 7<<7 | 4<<3
	RegMAIREL1       = sys | 10<<7 | 2<<3
	RegAMAIREL1      = sys | 10<<7 | 3<<3
	RegVBAREL1       = sys | 12<<7 | 0<<3
	RegCONTEXTIDREL1 = sys | 13<<7 | 0<<3 | 1
	RegTPIDREL1      = sys | 13<<7 | 0<<3 | 4
	RegCNTKCTLEL1    = sys | 14<<7 | 1<<3

	RegTPIDREL0   = sys | 3<<11 | 13<<7 | 0<<3 | 2
	RegTPIDRROEL0 = sys | 3<<11 | 13<<7 | 0<<3 | 3
)

// Timer registers. Two have each other's encoding: "Their values have been
// accidentally swapped. As this is set API, the definitions here must be used".
const (
	RegTimerCtl   = sys | 3<<11 | 14<<7 | 3<<3 | 1 // CNTV_CTL_EL0
	RegTimerCVal  = sys | 3<<11 | 14<<7 | 0<<3 | 2 // CNTV_CVAL_EL0
	RegTimerCount = sys | 3<<11 | 14<<7 | 3<<3 | 2 // CNTVCT_EL0
	RegPTimerCtl  = sys | 3<<11 | 14<<7 | 2<<3 | 1 // CNTP_CTL_EL0
	RegPTimerCVal = sys | 3<<11 | 14<<7 | 2<<3 | 2 // CNTP_CVAL_EL0
	RegPTimerCnt  = sys | 3<<11 | 14<<7 | 0<<3 | 1 // CNTPCT_EL0
)

// RegPSCIVersion is KVM_REG_ARM_PSCI_VERSION, a register of KVM as firmware.
const RegPSCIVersion = regARM64 | regU64 | regFirmware
