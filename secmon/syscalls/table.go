package syscalls

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed calls.txt
var callsText string

// ABI is a way to pass system calls to a kernel.
type ABI uint8

const (
	AMD64 ABI = iota
	I386      // 32-bit programs on an amd64 kernel
	ARM64
	ARM // 32-bit programs on an arm64 kernel
	abis
)

var abiNames = [abis]string{"amd64", "i386", "arm64", "arm"}

func (a ABI) String() string { return abiNames[a] }

// ParseABI reads what String gives.
func ParseABI(s string) (ABI, bool) {
	i := slices.Index(abiNames[:], s)
	return ABI(i), i >= 0
}

// Compat says that programs of the ABI are 32-bit ones.
func (a ABI) Compat() bool { return a == I386 || a == ARM }

// Call is a system call as some ABIs have it.
type Call struct {
	Name string
	// Handlers are the names of the kernel's functions for it, without what
	// comes before them.
	Handlers []string
	Params   []Param
	numbers  [abis]int
}

// Param is a parameter of a call.
type Param struct {
	Kind Kind
	// Length is the parameter that says how long what this one points to is,
	// -1 for none.
	Length int
	set    string // of kind Flags
}

// Number is the call's number in an ABI.
func (c *Call) Number(a ABI) (n int, ok bool) {
	n = c.numbers[a]
	return n, n >= 0
}

// Find gives the index of the first parameter of that kind, -1 for none.
func (c *Call) Find(k Kind) int {
	return slices.IndexFunc(c.Params, func(p Param) bool { return p.Kind == k })
}

// Flags gives the index of the parameter whose value that set names, -1 for none.
func (c *Call) Flags(set string) int {
	return slices.IndexFunc(c.Params, func(p Param) bool { return p.set == set })
}

// Word is where, among the six words in which a call's arguments travel,
// parameter n begins: 64-bit values take two in 32-bit ABIs, of which the first is
// an even one on arm.
func (c *Call) Word(a ABI, n int) int {
	w := 0
	for i, p := range c.Params[:n+1] {
		wide := a.Compat() && (p.Kind == Off || p.Kind == U64)
		if wide && a == ARM {
			w += w % 2
		}
		if i == n {
			break
		}
		if w++; wide {
			w++
		}
	}
	return w
}

// Value is parameter n of a call with these words.
func (c *Call) Value(a ABI, n int, words *[6]uint64) uint64 {
	w := c.Word(a, n)
	if w >= len(words) {
		return 0
	}
	v := words[w]
	if k := c.Params[n].Kind; a.Compat() && (k == Off || k == U64) && w+1 < len(words) {
		v |= words[w+1] << 32
	}
	return v
}

var (
	byName   = map[string][]*Call{}
	byNumber [abis]map[int]*Call
)

func init() {
	for i := range byNumber {
		byNumber[i] = map[int]*Call{}
	}
	for line := range strings.Lines(callsText) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		c, err := parseCall(strings.Fields(line))
		if err != nil {
			panic(fmt.Sprintf("calls.txt: %q: %v", line, err))
		}
		byName[c.Name] = append(byName[c.Name], c)
		for a, n := range c.numbers {
			if n >= 0 {
				byNumber[a][n] = c
			}
		}
	}
}

func parseCall(f []string) (*Call, error) {
	if len(f) < 1+int(abis) {
		return nil, fmt.Errorf("%d words", len(f))
	}
	c := &Call{Name: f[0], Handlers: []string{f[0]}}
	for a := range c.numbers {
		c.numbers[a] = -1
		if s := f[1+a]; s != "-" {
			n, err := strconv.Atoi(s)
			if err != nil {
				return nil, err
			}
			c.numbers[a] = n
		}
	}
	for _, word := range f[1+abis:] {
		if names, ok := strings.CutPrefix(word, "="); ok {
			c.Handlers = strings.Split(names, ",")
			continue
		}
		p, err := parseParam(word)
		if err != nil {
			return nil, err
		}
		c.Params = append(c.Params, p)
	}
	for _, p := range c.Params {
		if p.Length >= len(c.Params) {
			return nil, fmt.Errorf("no parameter %d", p.Length)
		}
	}
	if len(c.Params) > 6 {
		return nil, fmt.Errorf("%d parameters", len(c.Params))
	}
	return c, nil
}

func parseParam(word string) (Param, error) {
	name, length, has := strings.Cut(word, ":")
	p := Param{Length: -1}
	if has {
		n, err := strconv.Atoi(length)
		if err != nil {
			return p, err
		}
		p.Length = n
	}
	if k, ok := kindNames[name]; ok {
		p.Kind = k
		return p, nil
	}
	if _, ok := sets[name]; !ok {
		return p, fmt.Errorf("no kind and no set %q", name)
	}
	p.Kind, p.set = Flags, name
	return p, nil
}

// Lookup gives the call of that name in an ABI, nil when it has none.
func Lookup(a ABI, name string) *Call {
	for _, c := range byName[name] {
		if c.numbers[a] >= 0 {
			return c
		}
	}
	return nil
}

// Known says whether any ABI has a call of that name.
func Known(name string) bool { return byName[name] != nil }

// ByNumber gives the call with a number, nil when there is none.
func ByNumber(a ABI, number int) *Call { return byNumber[a][number] }

// Names lists the calls of an ABI, sorted.
func Names(a ABI) []string {
	var names []string
	for _, c := range byNumber[a] {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
