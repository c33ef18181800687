package introspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Where the kernel keeps track of modules.
const (
	InModules = "modules" // the list, which /proc/modules shows
	InSysfs   = "sysfs"   // the objects behind /sys/module
)

// ModuleInfo is a loaded kernel module.
type ModuleInfo struct {
	Name   string   `json:"name"`
	Size   uint64   `json:"size"` // bytes of code and data
	Refs   int      `json:"refs"` // who uses it
	UsedBy []string `json:"used_by,omitempty"`
	State  string   `json:"state"` // Live, Loading, Unloading, as in /proc/modules
	Base   Pointer  `json:"base"`  // of its code
	// TextSize is how many bytes of code there are from Base.
	TextSize uint64   `json:"text_size"`
	Taints   uint64   `json:"taints,omitempty"` // flags of include/linux/panic.h
	Module   Pointer  `json:"module"`           // its struct module
	Seen     []string `json:"seen"`
	Hidden   bool     `json:"hidden,omitempty"` // not on the list, and elsewhere
	Missing  []string `json:"missing,omitempty"`
}

const maxModules = 4096

// Modules lists the guest's kernel modules by name, those included that were
// taken off the list. The error wraps [ErrIncomplete] when one of the records could
// not be walked.
func (l *Live) Modules(ctx context.Context) ([]ModuleInfo, error) {
	if !l.loadsModules() {
		return nil, nil
	}
	q := l.ask(ctx)
	seen := make(map[uint64][]string)
	var errs []error
	for _, w := range []struct {
		name string
		walk func(add func(object))
	}{{InModules, q.modules}, {InSysfs, q.moduleObjects}} {
		var found []uint64
		q.again(func() {
			found = found[:0]
			w.walk(func(m object) { found = append(found, m.addr) })
		})
		if err := q.take(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.name, err))
		}
		for _, m := range found {
			seen[m] = append(seen[m], w.name)
		}
	}
	if len(seen) == 0 && len(errs) > 0 {
		return nil, fmt.Errorf("introspect: modules: %w", errors.Join(errs...))
	}
	var all []ModuleInfo
	for at, where := range seen {
		m, ok := q.module(q.at("module", at))
		if !ok {
			continue
		}
		m.Seen = where
		m.Hidden = !slices.Contains(where, InModules) && m.State == "Live" && !q.listed(at)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b ModuleInfo) int { return strings.Compare(a.Name, b.Name) })
	if len(errs) > 0 {
		return all, fmt.Errorf("introspect: %w of modules: %w", ErrIncomplete, errors.Join(errs...))
	}
	return all, ctx.Err()
}

// listed says whether a module is on the list by now.
func (q *question) listed(at uint64) bool {
	found := false
	q.again(func() {
		found = false
		q.modules(func(m object) { found = found || m.addr == at })
	})
	return q.take() != nil || found
}

// loadsModules says whether the kernel can. The list itself may be unknown then: it
// is a variable, and this a function.
func (l *Live) loadsModules() bool {
	_, function := l.symbols.Lookup("load_module")
	_, list := l.symbols.Lookup("modules")
	return function || list
}

func (q *question) modules(add func(object)) {
	for m := range q.list(q.symbol("modules"), maxModules, "module", "list") {
		add(m)
	}
}

// moduleObjects walks /sys/module, where code that is built in has objects too.
func (q *question) moduleObjects(add func(object)) {
	set := q.at("kset", q.word(q.symbol("module_kset")))
	for k := range q.list(set.in("list", "list_head").addr, 2*maxModules, "kobject", "entry") {
		if m := k.holder("module_kobject", "kobj").to("mod", "module"); !m.isNil() {
			add(m)
		}
	}
}

var moduleStates = []string{"Live", "Loading", "Unloading", "Unformed"}

// module reads what a module is. It is false for one that has gone meanwhile, or
// that is just being made, which /proc/modules does not show either.
func (q *question) module(m object) (ModuleInfo, bool) {
	info := ModuleInfo{Name: m.text("name"), Module: Pointer(m.addr)}
	state := m.uint("state")
	if q.take() != nil || info.Name == "" || state >= 3 {
		return info, false
	}
	info.State = moduleStates[state]
	part := func(name string, read func()) {
		read()
		if q.take() != nil {
			info.Missing = append(info.Missing, name)
		}
	}
	part("layout", func() {
		for i, r := range q.moduleMemory(m) {
			if i == 0 {
				info.Base, info.TextSize = Pointer(r.base), r.text
			}
			info.Size += r.size
		}
	})
	part("refs", func() { info.Refs = int(int32(m.uint("refcnt.counter"))) - 1 }) // one is its own
	part("taints", func() { info.Taints = m.uint("taints") })
	part("users", func() {
		for u := range q.list(m.in("source_list", "list_head").addr, maxModules, "module_use", "source_list") {
			info.UsedBy = append(info.UsedBy, u.to("source", "module").text("name"))
		}
	})
	return info, true
}

// region is memory of a module; text is how much of it is code.
type region struct{ base, size, text uint64 }

// moduleMemory reads where a module is, its code first: an array by kind since
// Linux 6.4, two layouts before.
func (q *question) moduleMemory(m object) []region {
	if !q.has("module.mem") {
		var all []region
		for _, l := range []string{"core_layout", "init_layout"} {
			all = append(all, region{m.uint(l + ".base"), m.uint(l + ".size"), m.uint(l + ".text_size")})
		}
		return all
	}
	mem := m.field("mem")
	each, err := q.fields.sizeOf("module_memory")
	if err != nil || each == 0 {
		q.fail(fmt.Errorf("%w: struct module_memory", ErrMissing))
		return nil
	}
	var all []region
	for i := uint64(0); i < min(mem.size/each, 16); i++ {
		part := q.at("module_memory", m.addr+mem.off+i*each)
		r := region{base: part.uint("base"), size: part.uint("size")}
		if i == 0 {
			r.text = r.size
		}
		all = append(all, r)
	}
	return all
}
