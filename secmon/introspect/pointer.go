package introspect

import "fmt"

// Pointer is an address in the guest. In JSON it is a string, as no number there
// holds 64 bits for all readers.
type Pointer uint64

func (p Pointer) String() string { return fmt.Sprintf("%#x", uint64(p)) }

// MarshalText implements encoding.TextMarshaler.
func (p Pointer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pointer) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "0x%x", (*uint64)(p))
	return err
}
