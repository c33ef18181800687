package introspect

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
)

// ErrMissing is the error for a structure or member that this kernel does not
// have, or not under the name that is known here.
var ErrMissing = errors.New("this kernel's types lack it")

// fields remembers where members lie. "task_struct.cred" names one; so does
// "socket_alloc.socket.sk" through structures that are embedded.
type fields struct {
	mu    sync.RWMutex
	known map[string]lookup
	spec  *btf.Spec // nil in tests that know all fields
	none  error     // why there is no spec
}

type lookup struct {
	field
	err error
}

func (f *fields) get(name string) (field, error) {
	f.mu.RLock()
	l, ok := f.known[name]
	f.mu.RUnlock()
	if ok {
		return l.field, l.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l.err = fmt.Errorf("%w: %s", ErrMissing, name)
	if f.none != nil {
		l.err = fmt.Errorf("%w: %w; kallsyms, read, write, syscalls, vectors and dump do without", ErrMissing, f.none)
	}
	if f.spec != nil {
		typ, path, _ := strings.Cut(name, ".")
		var err error
		if l.field, err = fieldOf(f.spec, typ, path); err != nil {
			l.err = fmt.Errorf("%w: %w", ErrMissing, err)
		} else {
			l.err = nil
		}
	}
	if f.known == nil {
		f.known = make(map[string]lookup)
	}
	f.known[name] = l
	return l.field, l.err
}

// has says whether the kernel has a member.
func (k *Kernel) has(name string) bool {
	_, err := k.fields.get(name)
	return err == nil
}

// first gives the first of several names that the kernel has a member of:
// members are renamed, and what they mean stays.
func (k *Kernel) first(typ string, members ...string) string {
	for _, m := range members {
		if k.has(typ + "." + m) {
			return m
		}
	}
	return members[0]
}

// object is a structure in the guest's memory, of a type that its kernel has.
type object struct {
	q    *question
	typ  string
	addr uint64
}

func (q *question) at(typ string, addr uint64) object { return object{q, typ, addr} }

// variable is a structure that the kernel has under a symbol.
func (q *question) variable(typ, symbol string) object { return q.at(typ, q.symbol(symbol)) }

func (o object) isNil() bool { return o.addr == 0 }

func (o object) field(member string) field {
	f, err := o.q.fields.get(o.typ + "." + member)
	if err != nil {
		o.q.fail(err)
	}
	return f
}

// uint reads a member of up to 8 bytes.
func (o object) uint(member string) uint64 {
	f := o.field(member)
	if o.q.err == nil && o.addr == 0 {
		o.q.fail(fmt.Errorf("%w: nil %s", ErrWalk, o.typ))
	}
	var p [8]byte
	o.q.memory(p[:min(f.size, 8)], o.addr+f.off)
	return le.Uint64(p[:])
}

// int reads a signed member of 4 bytes.
func (o object) int(member string) int { return int(int32(o.uint(member))) }

// to follows a pointer, which may be nil, to a structure of type typ.
func (o object) to(member, typ string) object { return o.q.at(typ, o.uint(member)) }

// in is an embedded structure.
func (o object) in(member, typ string) object { return o.q.at(typ, o.addr+o.field(member).off) }

// holder is the structure of which this one is a member.
func (o object) holder(typ, member string) object {
	h := o.q.at(typ, 0)
	h.addr = o.addr - h.field(member).off
	return h
}

// maxText bounds strings that are no paths.
const maxText = 1024

// text reads a string that a member holds.
func (o object) text(member string) string {
	f := o.field(member)
	p := make([]byte, min(f.size, maxText))
	o.q.memory(p, o.addr+f.off)
	return o.q.keep(text(p))
}

// string reads a string that a member points to, "" where it is nil.
func (o object) string(member string) string {
	at := o.uint(member)
	if at == 0 || o.q.err != nil {
		return ""
	}
	s, err := o.q.cstring(at, maxText)
	if err != nil {
		o.q.fail(err)
	}
	return o.q.keep(s)
}

// sizeOf is how many bytes a structure takes.
func (f *fields) sizeOf(typ string) (uint64, error) {
	l, err := f.get(typ)
	return l.size, err
}
