package acpi

import (
	"bytes"
	"fmt"
)

// A Watchdog is one whose registers, 32 bits wide, are in memory space. What the
// guest does to it is to write them: the countdown to Load, where it counts units
// of Period milliseconds; Ping to PingReg to set it back; Run and 0 to Control
// for start and stop, and Control has bit 0 set while it runs.
type Watchdog struct {
	Load, Control, PingReg uint64 // addresses
	Ping, Run              uint32
	Period                 uint32 // milliseconds
	MaxCount               uint32
}

// Actions and instructions of the watchdog action table, from Microsoft's
// "Hardware Watchdog Timers Design Specification", tables 4 and 5.
const (
	wdatPing       = 1
	wdatSetCount   = 6
	wdatIsRunning  = 8
	wdatRun        = 9
	wdatIsStopped  = 10
	wdatStop       = 11
	wdatReadValue  = 0
	wdatWriteValue = 2
	wdatWriteCount = 3

	wdatEnabled  = 1 << 0
	wdatNoPCI    = 0xff
	wdatWord     = 3 // access size of 32 bits
	wdatAllBits  = 0xffff_ffff
	wdatRunsMask = 1
)

type wdatHeader struct {
	Length                uint32 // of this, and the table's header not
	Segment               uint16
	Bus, Device, Function uint8
	_                     [3]uint8
	Period                uint32
	MaxCount, MinCount    uint32
	Flags                 uint8
	_                     [3]uint8
	Entries               uint32
}

type wdatEntry struct {
	Action, Instruction uint8
	_                   uint16
	Register            gas
	Value, Mask         uint32
}

func wdat(w *Watchdog) []byte {
	entry := func(action, instruction uint8, reg uint64, value, mask uint32) wdatEntry {
		return wdatEntry{
			Action: action, Instruction: instruction, Value: value, Mask: mask,
			Register: gas{Space: SystemMemory, BitWidth: 32, AccessSize: wdatWord, Address: reg},
		}
	}
	entries := []wdatEntry{
		entry(wdatPing, wdatWriteValue, w.PingReg, w.Ping, wdatAllBits),
		entry(wdatSetCount, wdatWriteCount, w.Load, 0, wdatAllBits),
		entry(wdatIsRunning, wdatReadValue, w.Control, 1, wdatRunsMask),
		entry(wdatRun, wdatWriteValue, w.Control, w.Run, wdatAllBits),
		entry(wdatIsStopped, wdatReadValue, w.Control, 0, wdatRunsMask),
		entry(wdatStop, wdatWriteValue, w.Control, 0, wdatAllBits),
	}
	h := wdatHeader{
		Segment: wdatNoPCI, Bus: wdatNoPCI, Device: wdatNoPCI, Function: wdatNoPCI,
		Period: w.Period, MaxCount: w.MaxCount, MinCount: 1,
		Flags: wdatEnabled, Entries: uint32(len(entries)),
	}
	h.Length = uint32(len(encode(h)))
	var b bytes.Buffer
	b.Write(encode(h))
	for _, e := range entries {
		b.Write(encode(e))
	}
	return table("WDAT", 1, b.Bytes())
}

func (w *Watchdog) check() error {
	if w.Period == 0 || w.MaxCount == 0 {
		return fmt.Errorf("a watchdog that counts to %d in units of %d ms", w.MaxCount, w.Period)
	}
	return nil
}
