package introspect

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// HookInfo is what a security module has hooked.
type HookInfo struct {
	Hook    string  `json:"hook"`
	LSM     string  `json:"lsm"`
	Handler Pointer `json:"handler"`
	Symbol  string  `json:"symbol"`
	Suspect string  `json:"suspect,omitempty"`
}

const maxHooks = 64 // of one kind

// LSM lists the hooks of the guest's security modules in the order in which they
// are asked: lists up to Linux 6.11, static calls since.
func (l *Live) LSM(ctx context.Context) ([]HookInfo, error) {
	q := l.ask(ctx)
	text := l.text(ctx, q)
	var all []HookInfo
	add := func(hook string, h object) {
		info := HookInfo{Hook: hook, Handler: Pointer(h.uint("hook"))}
		if q.has("security_hook_list.lsmid") {
			info.LSM = h.to("lsmid", "lsm_id").string("name")
		} else {
			info.LSM = h.string("lsm")
		}
		info.Symbol, info.Suspect = text.name(uint64(info.Handler))
		all = append(all, info)
	}
	typ, symbol := "security_hook_heads", "security_hook_heads"
	if _, ok := q.symbols.Lookup(symbol); !ok {
		typ, symbol = "lsm_static_calls_table", "static_calls_table"
	}
	table := q.variable(typ, symbol)
	members, err := q.fields.members(typ)
	if err != nil {
		q.fail(err)
	}
	for _, m := range members {
		if typ == "security_hook_heads" {
			q.hash(q.word(table.addr+m.off), maxHooks, "security_hook_list", "list", func(h object) { add(m.name, h) })
			continue
		}
		each, _ := q.fields.sizeOf("lsm_static_call")
		for at := uint64(0); each > 0 && at+each <= min(m.size, maxHooks*each) && q.err == nil; at += each {
			if h := q.at("lsm_static_call", table.addr+m.off+at).to("hl", "security_hook_list"); !h.isNil() && q.err == nil {
				add(m.name, h)
			}
		}
	}
	if err := q.take(); err != nil {
		return nil, fmt.Errorf("introspect: hooks of security modules: %w", err)
	}
	return all, nil
}

type namedField struct {
	name string
	field
}

// members are those of a structure, in its order.
func (f *fields) members(typ string) ([]namedField, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spec == nil {
		return nil, fmt.Errorf("%w: struct %s", ErrMissing, typ)
	}
	var s *btf.Struct
	if err := f.spec.TypeByName(typ, &s); err != nil {
		return nil, fmt.Errorf("%w: struct %s: %w", ErrMissing, typ, err)
	}
	var all []namedField
	for _, m := range s.Members {
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			return nil, fmt.Errorf("%w: struct %s: %w", ErrMissing, typ, err)
		}
		all = append(all, namedField{m.Name, field{uint64(m.Offset / 8), uint64(size)}})
	}
	return all, nil
}
