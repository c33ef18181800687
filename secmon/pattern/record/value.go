package record

import (
	"net/netip"
	"strconv"
	"strings"

	"warder/secmon/event"
)

// Value is what a record has in a field.
type Value struct {
	// State is whether there is a value at all.
	State State
	// Form is how Text is to be read.
	Form Form
	Text string
	// Number is the value of forms Number and Hex.
	Number uint64
	Addr   netip.Addr
	Time   int64
}

// State is whether a field has a value.
type State uint8

const (
	Absent State = iota // the record has no such field
	Empty               // it has the field, without a value
	Present
)

// Form is what kind of value it is.
type Form uint8

const (
	Text   Form = iota
	Args        // a text in which NUL stands for a space
	Number      // Number
	Hex         // Number, as text in hexadecimal without a prefix
	Addr        // Addr
	Time        // Time
	Bytes       // a text that may be anything
)

// String is the value as text, "" where there is none.
func (v Value) String() string {
	if v.State != Present {
		return ""
	}
	switch v.Form {
	case Args:
		return event.CommandLine(v.Text)
	case Text, Bytes:
		return v.Text
	}
	return string(v.Append(nil))
}

// Append appends the value as text to dst.
func (v Value) Append(dst []byte) []byte {
	if v.State != Present {
		return dst
	}
	switch v.Form {
	case Args:
		return append(dst, event.CommandLine(v.Text)...)
	case Number:
		return strconv.AppendUint(dst, v.Number, 10)
	case Hex:
		return strconv.AppendUint(dst, v.Number, 16)
	case Addr:
		return v.Addr.AppendTo(dst)
	case Time:
		return utc(v.Time).AppendFormat(dst, "2006-01-02 15:04:05.000")
	}
	return append(dst, v.Text...)
}

// Float is the value as a number. A text is one if it is written as one, in
// decimal or with 0x.
func (v Value) Float() (float64, bool) {
	switch v.Form {
	case Number, Hex:
		return float64(v.Number), true
	case Time:
		return float64(v.Time) / 1e9, true
	case Addr:
		return 0, false
	}
	s := strings.TrimSpace(v.Text)
	if s == "" {
		return 0, false
	}
	if rest, ok := strings.CutPrefix(s, "0x"); ok {
		n, err := strconv.ParseUint(rest, 16, 64)
		return float64(n), err == nil
	}
	if s[0] != '-' && (s[0] < '0' || s[0] > '9') { // not inf, not nan
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func text(s string) Value {
	if s == "" {
		return Value{State: Empty}
	}
	return Value{State: Present, Text: s}
}

func args(s string) Value {
	if s == "" {
		return Value{State: Empty, Form: Args}
	}
	return Value{State: Present, Form: Args, Text: s}
}

func number(n uint64) Value { return Value{State: Present, Form: Number, Number: n} }

func hex(n uint64) Value { return Value{State: Present, Form: Hex, Number: n} }

func address(a netip.Addr) Value {
	if !a.IsValid() {
		return Value{State: Empty, Form: Addr}
	}
	return Value{State: Present, Form: Addr, Addr: a}
}

func boolean(b bool) Value { return text(strconv.FormatBool(b)) }
