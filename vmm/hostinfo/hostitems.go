package hostinfo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"warder/vmm/cgroup"
)

// leastMemory is what the smallest machine takes.
const leastMemory = 256 << 20

// hostItems is what is around KVM.
func (r *Report) hostItems() []Item {
	items := []Item{
		{Group: GroupHost, Name: "architecture", Present: true, Value: r.Arch},
		{Group: GroupHost, Name: "Linux", Present: true, Value: r.Kernel},
		{Group: GroupHost, Name: "CPUs", Present: true, Value: fmt.Sprint(r.CPUs)},
	}
	if r.Hypervisor != "" {
		items = append(items, Item{
			Group: GroupHost, Name: "virtual machine", Present: true,
			Value: r.Hypervisor, Use: "this host is a guest itself: its KVM depends on nested virtualisation",
		})
	}
	return append(items, r.memoryItem(), r.kvmItem(), r.landlockItem(), r.cgroupItem(), r.userfaultfdItem(), r.tapItem())
}

func (r *Report) memoryItem() Item {
	i := Item{
		Group: GroupHost, Name: "memory", Required: true,
		Present: r.Memory.Available >= leastMemory,
		Value:   fmt.Sprintf("%s, %s available", humanize.IBytes(r.Memory.Total), humanize.IBytes(r.Memory.Available)),
		Use:     "guests",
	}
	if !i.Present {
		i.Todo = fmt.Sprintf("end other programs: a machine takes %s at least", humanize.IBytes(leastMemory))
	}
	return i
}

func (r *Report) kvmItem() Item {
	return Item{
		Group: GroupHost, Name: "KVM", Required: true, Present: r.KVM.Class == Hardware,
		Value: string(r.KVM.Class) + ": " + r.KVM.Reason, Use: "running anything at all", Todo: r.KVM.Todo,
	}
}

func (r *Report) landlockItem() Item {
	i := Item{
		Group: GroupHost, Name: "Landlock", Present: r.Landlock > 0, Since: "5.13",
		Use: "confining device components to the files they need",
	}
	if i.Present {
		i.Value = fmt.Sprintf("ABI %d", r.Landlock)
	} else {
		i.Todo = "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= parameter"
	}
	return i
}

func (r *Report) cgroupItem() Item {
	i := Item{
		Group: GroupHost, Name: "cgroup v2", Since: "4.14",
		Value: strings.Join(r.Cgroup.Controllers, " "), Use: "shares and bounds of CPU time for each VM",
	}
	err := r.Cgroup.Check()
	i.Present = err == nil
	if e, ok := errors.AsType[*cgroup.UnavailableError](err); ok {
		i.Value, i.Todo = e.Reason, e.Todo
	}
	return i
}

func (r *Report) userfaultfdItem() Item {
	i := Item{
		Group: GroupHost, Name: "userfaultfd", Present: r.Userfaultfd.Kernel && r.Userfaultfd.Shared,
		Since: uffdSince(r.Arch), Use: "protected data: stopping a write to guest memory before it is done",
	}
	switch {
	case i.Present:
		i.Value = "write protection of shared memory"
	case !r.Userfaultfd.Kernel:
		i.Todo = "sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd, or run as root (CONFIG_USERFAULTFD)"
	default:
		i.Value = "no write protection of shared memory"
		i.Todo = todoSince(i.Since, r.Kernel)
	}
	return i
}

func (r *Report) tapItem() Item {
	i := Item{
		Group: GroupHost, Name: "TAP", Present: r.TAP.Usable, Value: r.TAP.Reason, Todo: r.TAP.Todo,
		Use: "joining VMs with a network of the host's; the LAN between VMs and its way out need no device",
	}
	if i.Present {
		i.Value = tapDevice
	}
	return i
}

// uffdSince is the release with write protection of shared memory.
func uffdSince(arch string) string {
	if arch == "arm64" {
		return "6.10"
	}
	return "5.19"
}
