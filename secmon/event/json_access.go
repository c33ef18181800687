package event

import (
	"fmt"
	"strconv"
)

// accessPart is an access as JSON has it: numbers as text in hexadecimal.
type accessPart struct {
	Name      string    `json:"name,omitempty"`
	Address   string    `json:"address,omitempty"`
	Port      bool      `json:"port,omitempty"`
	Size      int       `json:"size,omitempty"`
	Write     bool      `json:"write,omitempty"`
	Old       string    `json:"old,omitempty"`
	OldSymbol string    `json:"old_symbol,omitempty"`
	Value     string    `json:"value"`
	Symbol    string    `json:"symbol,omitempty"`
	Refused   bool      `json:"refused,omitempty"`
	Args      [4]string `json:"args"`
	Data      []byte    `json:"data,omitempty"`
	PC        string    `json:"pc,omitempty"`
	PCSymbol  string    `json:"pc_symbol,omitempty"`
	Count     uint64    `json:"count"`
}

func hexText(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

// hexUnless is a number's text, "" for 0.
func hexUnless(v uint64) string {
	if v == 0 {
		return ""
	}
	return hexText(v)
}

func toAccess(a *Access) *accessPart {
	p := &accessPart{
		Name: a.Name, Address: hexUnless(a.Addr), Port: a.Port, Size: a.Size, Write: a.Write, Old: hexUnless(a.Old), OldSymbol: a.OldSymbol,
		Value: hexText(a.Value), Symbol: a.Symbol, Refused: a.Refused, Data: a.Data, PC: hexUnless(a.PC), PCSymbol: a.PCSymbol, Count: a.Count,
	}
	for i, v := range a.Args {
		p.Args[i] = hexText(v)
	}
	return p
}

func (p *accessPart) access() (*Access, error) {
	a := &Access{
		Name: p.Name, Port: p.Port, Size: p.Size, Write: p.Write, OldSymbol: p.OldSymbol, Symbol: p.Symbol, Refused: p.Refused, Data: p.Data,
		PCSymbol: p.PCSymbol, Count: p.Count,
	}
	for _, n := range []struct {
		text string
		to   *uint64
	}{
		{p.Address, &a.Addr}, {p.Old, &a.Old}, {p.Value, &a.Value}, {p.PC, &a.PC},
		{p.Args[0], &a.Args[0]}, {p.Args[1], &a.Args[1]}, {p.Args[2], &a.Args[2]}, {p.Args[3], &a.Args[3]},
	} {
		if n.text == "" {
			continue
		}
		v, err := strconv.ParseUint(n.text, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("warder.access: %w", err)
		}
		*n.to = v
	}
	return a, nil
}
