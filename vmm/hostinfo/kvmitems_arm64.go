package hostinfo

import "warder/kvm"

// archItems is what no capability tells: which interrupt controller the kernel
// emulates, and whether calls of the guest can be forwarded.
func archItems(_ string, vm *kvm.VM, release string) (required, optional []Item) {
	var names string
	for _, typ := range []kvm.DeviceType{kvm.DeviceVGICv3, kvm.DeviceVGICv2} {
		if _, err := vm.CreateDevice(typ, kvm.CreateDeviceTest); err == nil {
			if names != "" {
				names += " "
			}
			names += typ.String()
		}
	}
	gic := Item{
		Group: GroupRequired, Name: "interrupt controller", Present: names != "", Required: true, Value: names,
		Since: "3.11", Use: "interrupts: GICv3, or GICv2 on smaller boards",
	}
	if !gic.Present {
		gic.Todo = todoSince("3.11", release)
	}
	filter := Item{
		Group: GroupOptional, Name: "SMCCC filter", Present: vm.HasSMCCCFilter(), Since: "6.4",
		Use: "calls of a guest into a trusted world",
	}
	if !filter.Present {
		filter.Todo = todoSince(filter.Since, release)
	}
	return []Item{gic}, []Item{filter}
}
