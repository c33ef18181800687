package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"warder/secmon/introspect"
	"warder/supervisor/api"
)

// at is a place in the guest, of the process that --pid names.
func (v *inspection) at(expr string) url.Values {
	q := url.Values{"at": {expr}}
	if v.pid != 0 {
		q.Set("pid", strconv.Itoa(v.pid))
	}
	return q
}

// bytesRead is what read prints as JSON.
type bytesRead struct {
	Addr  introspect.Pointer `json:"addr"`
	Bytes string             `json:"bytes"` // hexadecimal
}

// readMemory prints memory as hexdump -C would, at its address in the guest.
func readMemory(ctx context.Context, v *inspection) error {
	if len(v.args) < 1 || len(v.args) > 2 {
		return errors.New("read from where? give an address or a symbol, and how many bytes if not 256")
	}
	q := v.at(v.args[0])
	if len(v.args) == 2 {
		n, err := strconv.ParseUint(v.args[1], 0, 32)
		if err != nil {
			return fmt.Errorf("read %s: give a number of bytes", v.args[1])
		}
		q.Set("length", strconv.FormatUint(n, 10))
	}
	var b bytes.Buffer
	at, err := v.vm.ReadMemory(ctx, q, &b)
	if err != nil {
		return err
	}
	if v.json {
		return printJSON(v.out, bytesRead{at, hex.EncodeToString(b.Bytes())})
	}
	for p := b.Bytes(); len(p) > 0; at += 16 {
		row := p[:min(16, len(p))]
		p = p[len(row):]
		text := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '.'
			}
			return r
		}, latin(row))
		fmt.Fprintf(v.out, "%016x  %-47s  |%s|\n", uint64(at), fmt.Sprintf("% x", row), text)
	}
	return nil
}

// latin has a character for each byte.
func latin(p []byte) string {
	var b strings.Builder
	for _, c := range p {
		b.WriteRune(rune(c))
	}
	return b.String()
}

func writeMemory(ctx context.Context, v *inspection) error {
	if len(v.args) != 2 {
		return errors.New("write what, and where? give an address or a symbol, and the bytes in hexadecimal")
	}
	p, err := hex.DecodeString(strings.TrimPrefix(strings.ReplaceAll(v.args[1], " ", ""), "0x"))
	if err != nil || len(p) == 0 {
		return fmt.Errorf("write %q: give bytes in hexadecimal, as 9090", v.args[1])
	}
	var w api.Written
	if err := v.vm.Put(ctx, "/memory", v.at(v.args[0]), bytes.NewReader(p), &w); err != nil {
		return err
	}
	if v.json {
		return printJSON(v.out, w)
	}
	fmt.Fprintf(v.out, "%d bytes written at %s\n", w.Bytes, w.Addr)
	return nil
}

// structure prints a structure as C would initialise it.
func structure(ctx context.Context, v *inspection) error {
	args := v.args
	if len(args) > 1 && (args[0] == "struct" || args[0] == "union") {
		args = append([]string{args[0] + " " + args[1]}, args[2:]...)
	}
	if len(args) < 2 || len(args) > 3 {
		return errors.New("which structure, and where? give its type, an address or a symbol, and if you like a path from there")
	}
	q := url.Values{"type": {args[0]}, "at": {args[1]}}
	if len(args) == 3 {
		q.Set("path", args[2])
	}
	for raw, err := range v.vm.Stream(ctx, "/inspect/struct", q) {
		if err != nil {
			return err
		}
		if v.json {
			fmt.Fprintf(v.out, "%s\n", raw)
			continue
		}
		var value introspect.Value
		if err := json.Unmarshal(raw, &value); err != nil {
			return err
		}
		v.value(value, "")
	}
	return nil
}

func (v *inspection) value(x introspect.Value, indent string) {
	name := x.Name
	if name != "" {
		name += " = "
	}
	if x.Members == nil && x.Left == 0 {
		fmt.Fprintf(v.out, "%s%s%s  (%s)\n", indent, printable(name), printable(x.Value), x.Type)
		return
	}
	fmt.Fprintf(v.out, "%s%s%s at %s {\n", indent, printable(name), x.Type, x.Addr)
	for _, m := range x.Members {
		v.value(m, indent+"  ")
	}
	if x.Left > 0 {
		fmt.Fprintf(v.out, "%s  ... %d more\n", indent, x.Left)
	}
	fmt.Fprintf(v.out, "%s}\n", indent)
}
