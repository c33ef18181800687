package hostinfo

import "warder/kvm"

// archItems is what no capability tells: whether a guest's INT3 exits.
func archItems(path string, _ *kvm.VM, _ string) (required, optional []Item) {
	i := Item{
		Group: GroupOptional, Name: "breakpoint instructions", Present: BreakpointsExit(path), Since: "2.6.30",
		Use: "a debugger's breakpoints, any number of them",
	}
	if !i.Present {
		i.Todo = "nothing: the processor, here an emulated one, does not let INT3 be seen; a debugger has four hardware breakpoints"
	}
	return nil, []Item{i}
}
