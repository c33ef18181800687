package trap

import (
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

// findSites finds the handlers of the calls: one for each way in that the
// kernel has. A call that the kernel does not have cannot be made, and has none.
func findSites(v introspect.View, g *introspect.Guest, calls []string) (map[uint64]*site, error) {
	sites := make(map[uint64]*site)
	for _, name := range calls {
		if !Known(name) {
			return nil, fmt.Errorf("there is no system call %q", name)
		}
		for _, h := range handlers[g.Arch()] {
			if err := addHandlers(sites, v, g, name, h.prefix, h.abi); err != nil {
				return nil, err
			}
		}
		if _, ok := g.Symbols().Lookup(programCheck); ok && isExec(name) {
			s, err := newSite(v, g, programCheck)
			if err != nil {
				return nil, err
			}
			s.call, s.check = syscalls.Lookup(syscalls.AMD64, "execve"), true
			sites[s.at] = s
		}
	}
	return sites, nil
}

func addHandlers(sites map[uint64]*site, v introspect.View, g *introspect.Guest, name, prefix string, abi syscalls.ABI) error {
	call := syscalls.Lookup(abi, name)
	if call == nil && abi == syscalls.ARM64 {
		call = syscalls.Lookup(syscalls.ARM, name)
	}
	if call == nil {
		return nil
	}
	for _, handler := range call.Handlers {
		symbol := prefix + handler
		if _, ok := g.Symbols().Lookup(symbol); !ok {
			continue
		}
		s, err := newSite(v, g, symbol)
		if err != nil {
			return err
		}
		s.call, s.abi, s.handler = call, abi, handler
		sites[s.at] = s
	}
	return nil
}
