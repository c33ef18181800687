package syscalls

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed flags.txt
var flagsText string

// set names the values of a parameter: numbers, in the part of it that mask
// selects, and bits.
type set struct {
	mask    uint64
	numbers []name
	bits    []name
}

type name struct {
	value uint64
	name  string
}

var sets = readSets(flagsText)

func readSets(text string) map[string]*set {
	all := map[string]*set{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		s := &set{mask: 1<<64 - 1}
		into := &s.numbers
		for _, word := range f[1:] {
			if word == "|" {
				into = &s.bits
				continue
			}
			text, number, named := cutLast(word)
			v, err := strconv.ParseUint(number, 0, 64)
			if err != nil {
				panic(fmt.Sprintf("flags.txt: %s: %v", f[0], err))
			}
			if !named {
				s.mask = v
				continue
			}
			*into = append(*into, name{v, text})
		}
		if s.numbers == nil {
			s.mask = 0
		}
		all[f[0]] = s
	}
	return all
}

// cutLast takes a word NAME=VALUE apart; a mask has no name.
func cutLast(word string) (text, number string, named bool) {
	i := strings.LastIndexByte(word, '=')
	if i < 0 {
		return "", word, false
	}
	return word[:i], word[i+1:], true
}

// setFor gives the set as an ABI has it.
func setFor(a ABI, name string) *set {
	if s := sets[name+".arm"]; s != nil && (a == ARM64 || a == ARM) {
		return s
	}
	return sets[name]
}

// FlagNames writes a value by the names of a set (flags.txt), as in
// "O_WRONLY|O_CREAT", and what has no name in hexadecimal.
func FlagNames(a ABI, setName string, v uint64) string {
	s := setFor(a, setName)
	if s == nil {
		return hex(v)
	}
	var parts []string
	rest := v
	if s.numbers != nil {
		part, found := v&s.mask, false
		for _, n := range s.numbers {
			if n.value == part {
				parts, found = append(parts, n.name), true
				rest &^= s.mask
				break
			}
		}
		if !found && part == 0 {
			rest &^= s.mask
		}
	}
	for _, n := range s.bits {
		if n.value == 0 {
			if v == 0 {
				return n.name
			}
			continue
		}
		if rest&n.value == n.value {
			parts = append(parts, n.name)
			rest &^= n.value
		}
	}
	if rest != 0 {
		parts = append(parts, hex(rest))
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, "|")
}

func hex(v uint64) string {
	if v == 0 {
		return "0"
	}
	return "0x" + strconv.FormatUint(v, 16)
}
