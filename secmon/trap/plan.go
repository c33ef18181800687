package trap

import (
	"errors"
	"fmt"

	"warder/secmon/introspect"
	"warder/secmon/syscalls"
)

// handlers are the names of the functions that system calls enter, by ABI:
// arch/x86/include/asm/syscall_wrapper.h and its namesake of arm64, where 32-bit
// programs come in by the native ones too.
var handlers = map[string][]struct {
	prefix string
	abi    syscalls.ABI
}{
	"amd64": {{"__x64_sys_", syscalls.AMD64}, {"__ia32_sys_", syscalls.I386}, {"__ia32_compat_sys_", syscalls.I386}},
	"arm64": {{"__arm64_sys_", syscalls.ARM64}, {"__arm64_compat_sys_", syscalls.ARM}},
}

// planner adds sites to what is to be hooked. One that is hooked already is taken
// over as it is.
type planner struct {
	view   introspect.View
	guest  *introspect.Guest
	before *armed
	plan   *armed
}

// site is that of a function, which is looked at if it is not hooked yet.
func (p *planner) site(symbol string) (*site, error) {
	if s := p.plan.names[symbol]; s != nil {
		return s, nil
	}
	s, err := p.before.names[symbol].again(), error(nil)
	if s == nil {
		if s, err = newSite(p.view, p.guest, symbol); err != nil {
			return nil, err
		}
	}
	// A handler without parameters is one function by the names of several ABIs.
	if same := p.plan.sites[s.at]; same != nil {
		s = same
	}
	p.plan.names[symbol], p.plan.sites[s.at] = s, s
	return s, nil
}

// entry is a site of the function's first instruction.
func (p *planner) entry(symbol string) (*site, error) {
	if s := p.before.names[symbol].again(); s != nil {
		p.plan.names[symbol], p.plan.sites[s.at] = s, s
		return s, nil
	}
	// The kernel may still change how functions begin.
	if at, err := p.guest.Addr("alternatives_patched"); err == nil {
		var done [4]byte
		if err := p.view.ReadAt(done[:], at); err != nil || le.Uint32(done[:]) == 0 {
			return nil, errors.Join(fmt.Errorf("%s: %w", symbol, errNotReady), err)
		}
	}
	s, err := newEntry(p.view, p.guest, symbol)
	if err != nil {
		return nil, err
	}
	p.plan.names[symbol], p.plan.sites[s.at] = s, s
	return s, nil
}

// calls adds the handlers of the calls that a client wants to see: one for each way in
// that the kernel has. A call that the kernel does not have cannot be made, and
// has none.
func (p *planner) calls(t *Traps) error {
	for _, name := range t.cfg.Calls {
		if !Known(name) {
			return fmt.Errorf("there is no system call %q", name)
		}
		for _, h := range handlers[p.guest.Arch()] {
			if err := p.handlers(t, name, h.prefix, h.abi); err != nil {
				return err
			}
		}
		if _, ok := p.guest.Symbols().Lookup(programCheck); ok && isExec(name) {
			s, err := p.site(programCheck)
			if err != nil {
				return err
			}
			s.call, s.check = syscalls.Lookup(syscalls.AMD64, "execve"), true
			s.add(t)
		}
	}
	return nil
}

func (p *planner) handlers(t *Traps, name, prefix string, abi syscalls.ABI) error {
	call := syscalls.Lookup(abi, name)
	if call == nil && abi == syscalls.ARM64 {
		call = syscalls.Lookup(syscalls.ARM, name)
	}
	if call == nil {
		return nil
	}
	for _, handler := range call.Handlers {
		symbol := prefix + handler
		if _, ok := p.guest.Symbols().Lookup(symbol); !ok {
			continue
		}
		s, err := p.site(symbol)
		if err != nil {
			return err
		}
		if s.call == nil {
			s.call, s.abi, s.handler = call, abi, handler
		}
		s.add(t)
	}
	return nil
}
