package introspect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// ErrExpression is the error for an expression that means nothing in this
// kernel.
var ErrExpression = errors.New("cannot be resolved")

// Value is something in guest memory as the kernel's types describe it.
type Value struct {
	Name    string  `json:"name,omitempty"` // of the member, index of an element
	Type    string  `json:"type"`           // as in C
	Addr    Pointer `json:"addr"`
	Value   string  `json:"value,omitempty"`   // number, pointer with its symbol, string
	Members []Value `json:"members,omitempty"` // of a structure, union or array
	// Left counts what is not shown of an array or of a structure too deep.
	Left int `json:"left,omitempty"`
}

// Bounds on what is decoded.
const (
	maxValues   = 1 << 16
	maxElements = 64 // of an array
	maxInside   = 16 // structures in structures
	maxSteps    = 64 // of a path
)

// Struct decodes a structure, union or other named type at an address of the
// kernel's. path leads further from there, "parent.cred->uid": through members,
// array elements "[3]" and pointers, which are followed; what it ends at is
// decoded.
func (l *Live) Struct(ctx context.Context, typ string, at uint64, path string) (Value, error) {
	d := decoder{q: l.ask(ctx), left: maxValues}
	t, err := l.typeByName(typ)
	if err != nil {
		return Value{}, err
	}
	steps, err := splitPath(path)
	if err != nil {
		return Value{}, err
	}
	name := ""
	for i, step := range steps {
		last := i == len(steps)-1
		if t, at, err = d.step(t, at, step, last); err != nil {
			return Value{}, fmt.Errorf("introspect: struct %s, %s: %w", typ, step, err)
		}
		name = step
	}
	v := d.value(name, t, at, 0)
	if err := d.q.take(); err != nil {
		return Value{}, fmt.Errorf("introspect: %s at %#x: %w", typ, at, err)
	}
	return v, nil
}

// typeByName finds a type by its name in C, with or without "struct".
func (k *Kernel) typeByName(name string) (btf.Type, error) {
	if k.types == nil {
		_, err := k.fields.get(name)
		return nil, fmt.Errorf("introspect: %w", err)
	}
	kind, bare, ok := strings.Cut(name, " ")
	if !ok {
		kind, bare = "", name
	}
	k.fields.mu.Lock()
	defer k.fields.mu.Unlock()
	types, err := k.types.AnyTypesByName(bare)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w: the kernel has no type %q", ErrExpression, name)
	}
	for _, t := range types {
		var is string
		switch t.(type) {
		case *btf.Struct:
			is = "struct"
		case *btf.Union:
			is = "union"
		case *btf.Enum:
			is = "enum"
		case *btf.Typedef, *btf.Int:
		default:
			continue
		}
		if kind == "" || kind == is {
			return t, nil
		}
	}
	return nil, fmt.Errorf("introspect: %w: the kernel has no type %q", ErrExpression, name)
}

// splitPath takes "a.b->c[2].d" apart into a, b, c, [2], d.
func splitPath(path string) ([]string, error) {
	path = strings.ReplaceAll(strings.ReplaceAll(path, "->", "."), "[", ".[")
	var steps []string
	for s := range strings.SplitSeq(path, ".") {
		if s != "" {
			steps = append(steps, s)
		}
	}
	if len(steps) > maxSteps {
		return nil, fmt.Errorf("introspect: %w: a path of more than %d steps", ErrExpression, maxSteps)
	}
	return steps, nil
}

type decoder struct {
	q    *question
	left int
}

// step goes to a member or an element. A pointer on the way is followed, and so
// is one at the end, if it is to a structure.
func (d *decoder) step(t btf.Type, at uint64, step string, last bool) (btf.Type, uint64, error) {
	t = btf.UnderlyingType(t)
	if index, ok := strings.CutPrefix(step, "["); ok {
		i, err := strconv.ParseUint(strings.TrimSuffix(index, "]"), 0, 32)
		a, isArray := t.(*btf.Array)
		if err != nil || !isArray || i >= uint64(a.Nelems) {
			return nil, 0, fmt.Errorf("%w: no such element", ErrExpression)
		}
		size, err := btf.Sizeof(a.Type)
		if err != nil {
			return nil, 0, err
		}
		t, at = a.Type, at+i*uint64(size)
	} else {
		off, member, ok := memberOf(t, step, 0)
		if !ok {
			return nil, 0, fmt.Errorf("%w: no such member, or a bit field", ErrExpression)
		}
		t, at = member, at+uint64(off/8)
	}
	p, ok := btf.UnderlyingType(t).(*btf.Pointer)
	if !ok {
		return t, at, nil
	}
	switch btf.UnderlyingType(p.Target).(type) {
	case *btf.Struct, *btf.Union:
	default:
		if last {
			return t, at, nil
		}
	}
	to := d.q.word(at)
	if err := d.q.take(); err != nil {
		return nil, 0, err
	}
	if to == 0 {
		return nil, 0, fmt.Errorf("%w: the pointer is nil", ErrExpression)
	}
	return p.Target, to, nil
}

// value decodes what is at an address. What cannot be read is an error of the
// question's.
func (d *decoder) value(name string, t btf.Type, at uint64, depth int) Value {
	v := Value{Name: name, Type: cName(t), Addr: Pointer(at)}
	if d.left--; d.left < 0 || d.q.err != nil {
		return v
	}
	switch u := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		d.members(&v, u.Members, at, depth)
	case *btf.Union:
		d.members(&v, u.Members, at, depth)
	case *btf.Array:
		d.array(&v, u, at, depth)
	case *btf.Pointer:
		v.Value = d.pointer(d.q.word(at), u)
	case *btf.Int:
		v.Value = number(d.bits(at, 0, u.Size*8), u.Size*8, u.Encoding)
	case *btf.Enum:
		v.Value = enum(u, d.bits(at, 0, u.Size*8))
	default:
		v.Value = "?"
	}
	return v
}

func (d *decoder) members(v *Value, members []btf.Member, at uint64, depth int) {
	if depth == maxInside {
		v.Left = len(members)
		return
	}
	for i, m := range members {
		if d.left <= 0 {
			v.Left = len(members) - i
			return
		}
		if m.BitfieldSize == 0 {
			v.Members = append(v.Members, d.value(m.Name, m.Type, at+uint64(m.Offset/8), depth+1))
			continue
		}
		field := Value{Name: m.Name, Type: fmt.Sprintf("%s : %d", cName(m.Type), m.BitfieldSize), Addr: Pointer(at + uint64(m.Offset/8))}
		bits := d.bits(at, m.Offset, uint32(m.BitfieldSize))
		switch u := btf.UnderlyingType(m.Type).(type) {
		case *btf.Int:
			field.Value = number(bits, uint32(m.BitfieldSize), u.Encoding)
		case *btf.Enum:
			field.Value = enum(u, bits)
		}
		d.left--
		v.Members = append(v.Members, field)
	}
}

func (d *decoder) array(v *Value, a *btf.Array, at uint64, depth int) {
	size, err := btf.Sizeof(a.Type)
	if err != nil || size <= 0 {
		v.Value = "?"
		return
	}
	if i, ok := btf.UnderlyingType(a.Type).(*btf.Int); ok && i.Size == 1 {
		p := make([]byte, min(a.Nelems, maxText))
		d.q.memory(p, at)
		if s := text(p); i.Encoding == btf.Char || i.Name == "char" {
			v.Value = strconv.Quote(s)
		} else {
			v.Value = fmt.Sprintf("% x", p)
		}
		return
	}
	for i := range min(a.Nelems, maxElements) {
		if depth == maxInside || d.left <= 0 {
			break
		}
		v.Members = append(v.Members, d.value(fmt.Sprintf("[%d]", i), a.Type, at+uint64(i)*uint64(size), depth+1))
	}
	v.Left = int(a.Nelems) - len(v.Members)
}

// pointer shows where a pointer leads: a string, a symbol, or an address.
func (d *decoder) pointer(to uint64, p *btf.Pointer) string {
	s := fmt.Sprintf("%#x", to)
	if to == 0 || d.q.err != nil {
		return s
	}
	if i, ok := btf.UnderlyingType(p.Target).(*btf.Int); ok && i.Size == 1 && i.Name == "char" {
		if text, err := d.q.cstring(to, 256); err == nil {
			return s + " " + strconv.Quote(text)
		}
		return s
	}
	if first, err := d.q.Addr("_text"); err == nil && to >= first {
		if last, err := d.q.Addr("_end"); err == nil && to < last {
			return s + " <" + d.q.Near(to) + ">"
		}
	}
	return s
}

// bits reads n bits, at most 64, from a bit offset.
func (d *decoder) bits(at uint64, off btf.Bits, n uint32) uint64 {
	var p [9]byte
	n = min(n, 64)
	first := uint64(off) / 8
	shift := uint64(off) % 8
	size := (shift + uint64(n) + 7) / 8
	d.q.memory(p[:size], at+first)
	v := le.Uint64(p[:]) >> shift
	if shift > 0 {
		v |= uint64(p[8]) << (64 - shift)
	}
	if n < 64 {
		v &= 1<<n - 1
	}
	return v
}

func number(v uint64, bits uint32, e btf.IntEncoding) string {
	switch {
	case e == btf.Bool:
		return strconv.FormatBool(v != 0)
	case e == btf.Signed && bits > 0 && bits <= 64:
		shift := 64 - bits
		return strconv.FormatInt(int64(v<<shift)>>shift, 10)
	}
	return strconv.FormatUint(v, 10)
}

func enum(e *btf.Enum, v uint64) string {
	for _, x := range e.Values {
		if x.Value == v {
			return fmt.Sprintf("%s (%d)", x.Name, v)
		}
	}
	return strconv.FormatUint(v, 10)
}

// cName is a type's name as C spells it.
func cName(t btf.Type) string {
	suffix := ""
	for range maxInside {
		switch u := t.(type) {
		case *btf.Pointer:
			t, suffix = u.Target, "*"+suffix
		case *btf.Const:
			t = u.Type
		case *btf.Volatile:
			t = u.Type
		case *btf.Restrict:
			t = u.Type
		case *btf.TypeTag:
			t = u.Type
		case *btf.Array:
			t, suffix = u.Type, fmt.Sprintf("[%d]", u.Nelems)+suffix
		case *btf.Struct:
			return named("struct", u.Name, suffix)
		case *btf.Union:
			return named("union", u.Name, suffix)
		case *btf.Enum:
			return named("enum", u.Name, suffix)
		case *btf.Fwd:
			return named("struct", u.Name, suffix)
		case *btf.FuncProto, *btf.Func:
			return "function " + suffix
		case *btf.Void:
			return "void " + suffix
		default:
			return strings.TrimSuffix(t.TypeName()+" "+suffix, " ")
		}
	}
	return "..."
}

func named(kind, name, suffix string) string {
	if name == "" {
		name = "{...}"
	}
	return strings.TrimSuffix(kind+" "+name+" "+suffix, " ")
}
