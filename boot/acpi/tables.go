package acpi

import (
	"bytes"
	"encoding/binary"
)

// The tables of ACPI 6.5, section 5.2, little-endian and without padding.

type header struct {
	Signature       [4]byte
	Length          uint32
	Revision        uint8
	Checksum        uint8
	OEMID           [6]byte
	OEMTableID      [8]byte
	OEMRevision     uint32
	CreatorID       [4]byte
	CreatorRevision uint32
}

const headerSize = 36

// table puts a header with lengths and checksum before body.
func table(signature string, revision uint8, body []byte) []byte {
	h := header{
		Signature: [4]byte([]byte(signature)),
		Length:    uint32(headerSize + len(body)), Revision: revision,
		OEMID: [6]byte([]byte("WARDER")), OEMTableID: [8]byte([]byte("WARDERVM")), OEMRevision: 1,
		CreatorID: [4]byte([]byte("WRDR")), CreatorRevision: 1,
	}
	t := append(encode(h), body...)
	t[9] = checksum(t)
	return t
}

// encode never fails: it is given structs of fixed size only.
func encode(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

// checksum is the byte that makes the sum of a table zero.
func checksum(t []byte) (sum uint8) {
	for _, b := range t {
		sum -= b
	}
	return sum
}

// rsdpSize is the length of the root pointer of ACPI 2.0, section 5.2.5.3.
const rsdpSize = 36

func rsdp(xsdt uint64) []byte {
	p := struct {
		Signature        [8]byte
		Checksum         uint8
		OEMID            [6]byte
		Revision         uint8
		RSDT             uint32
		Length           uint32
		XSDT             uint64
		ExtendedChecksum uint8
		_                [3]uint8
	}{
		Signature: [8]byte([]byte("RSD PTR ")), OEMID: [6]byte([]byte("WARDER")), Revision: 2,
		Length: rsdpSize, XSDT: xsdt,
	}
	b := encode(p)
	b[8] = checksum(b[:20])
	b[32] = checksum(b)
	return b
}

func xsdt(tables ...uint64) []byte { return table("XSDT", 1, encode(tables)) }

// gas is a generic address structure, section 5.2.3.2.
type gas struct {
	Space      Space
	BitWidth   uint8
	BitOffset  uint8
	AccessSize uint8
	Address    uint64
}

func (r Register) gas() gas { return gas{Space: r.Space, BitWidth: 8, AccessSize: 1, Address: r.Addr} }

// Flags of the FADT, table 5.10, and of its IA-PC boot architecture, table 5.11.
const (
	fadtWBINVD        = 1 << 0
	fadtPowerButton   = 1 << 4 // none with fixed hardware
	fadtSleepButton   = 1 << 5
	fadtResetRegister = 1 << 10
	fadtHeadless      = 1 << 12
	fadtHWReduced     = 1 << 20

	bootLegacyDevices = 1 << 0
	bootNoVGA         = 1 << 2
	bootNoRTC         = 1 << 5
)

func fadt(cfg Config, dsdt uint64) []byte {
	// The 76 bytes up to IAPCBootArch, and most of what follows, describe fixed
	// hardware, which there is none of.
	var t struct {
		FirmwareCtrl  uint32
		DSDT          uint32
		_             uint8
		Profile       uint8
		_             [63]uint8
		IAPCBootArch  uint16
		_             uint8
		Flags         uint32
		Reset         gas
		ResetValue    uint8
		ARMBootArch   uint16
		Minor         uint8
		XFirmwareCtrl uint64
		XDSDT         uint64
		_             [8]gas
		SleepControl  gas
		SleepStatus   gas
		HypervisorID  [8]byte
	}
	const enterpriseServer = 4
	t.Profile = enterpriseServer
	t.DSDT, t.XDSDT = uint32(dsdt), dsdt
	t.IAPCBootArch = bootNoVGA
	if cfg.Serial != nil {
		t.IAPCBootArch |= bootLegacyDevices
	}
	if cfg.RTC == nil {
		t.IAPCBootArch |= bootNoRTC
	}
	t.Flags = fadtWBINVD | fadtPowerButton | fadtSleepButton | fadtResetRegister | fadtHeadless | fadtHWReduced
	t.Reset, t.ResetValue = cfg.Power.Reset.gas(), cfg.Power.ResetValue
	t.SleepControl, t.SleepStatus = cfg.Power.SleepControl.gas(), cfg.Power.SleepStatus.gas()
	copy(t.HypervisorID[:], "WARDER")
	t.Minor = 5
	return table("FACP", 6, encode(t))
}

// Entries of the MADT, section 5.2.12.

type madtLocalAPIC struct {
	Type, Length uint8
	Processor    uint8
	APICID       uint8
	Flags        uint32
}

type madtX2APIC struct {
	Type, Length uint8
	_            uint16
	APICID       uint32
	Flags        uint32
	Processor    uint32
}

type madtIOAPIC struct {
	Type, Length uint8
	ID           uint8
	_            uint8
	Address      uint32
	GSIBase      uint32
}

type madtLocalAPICNMI struct {
	Type, Length uint8
	Processor    uint8
	Flags        uint16
	LINT         uint8
}

// madt lists CPUs and interrupt controllers. No source is overridden: GSI n is
// input n of the IOAPIC, edge-triggered and active high below 16 as on the ISA
// bus, and as the DSDT says of each device above.
func madt(cfg Config) []byte {
	const (
		enabled       = 1
		allProcessors = 0xff
		firstX2APIC   = 255 // 255 is the broadcast address of a local APIC
	)
	var b bytes.Buffer
	b.Write(encode(struct{ LocalAPIC, Flags uint32 }{uint32(cfg.LocalAPIC), 0}))
	for i := range uint32(cfg.CPUs) {
		if i < firstX2APIC {
			b.Write(encode(madtLocalAPIC{Type: 0, Length: 8, Processor: uint8(i), APICID: uint8(i), Flags: enabled}))
		} else {
			b.Write(encode(madtX2APIC{Type: 9, Length: 16, APICID: i, Flags: enabled, Processor: i}))
		}
	}
	b.Write(encode(madtIOAPIC{Type: 1, Length: 12, Address: uint32(cfg.IOAPIC)}))
	b.Write(encode(madtLocalAPICNMI{Type: 4, Length: 6, Processor: allProcessors, LINT: 1}))
	return table("APIC", 5, b.Bytes())
}
