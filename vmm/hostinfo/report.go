package hostinfo

import (
	"runtime"

	"golang.org/x/sys/unix"

	"warder/vmm/cgroup"
)

// Report is what Probe found.
type Report struct {
	Arch   string `json:"arch"`   // amd64 or arm64
	Kernel string `json:"kernel"` // release, as uname -r prints it
	CPUs   int    `json:"cpus"`   // that this process may use
	// Hypervisor is whose guest this machine itself is, "" where there is no
	// sign of one.
	Hypervisor string `json:"hypervisor,omitempty"`
	KVM        KVM    `json:"kvm"`
	Memory     Memory `json:"memory"`
	Landlock   int    `json:"landlock_abi"` // version of the ABI; 0 is none
	// Cgroup is this process's place in the cgroup v2 tree.
	Cgroup      cgroup.Place `json:"cgroup"`
	Userfaultfd Userfaultfd  `json:"userfaultfd"`
	TAP         TAP          `json:"tap"`
	// Items is all of it in a form to show, in groups.
	Items []Item `json:"items"`
	// Ready says whether a machine will run: each required item is there.
	Ready bool `json:"ready"`
}

// Item is one thing that a host has or has not.
type Item struct {
	Group    string `json:"group"`
	Name     string `json:"name"`
	Present  bool   `json:"present"`
	Required bool   `json:"required"` // no machine runs without it
	Value    string `json:"value,omitempty"`
	// Since is the Linux release that brought it, Use what it is for; of a thing
	// missing that is what does not work.
	Since string `json:"since,omitempty"`
	Use   string `json:"use,omitempty"`
	Todo  string `json:"todo,omitempty"` // what to do about a thing missing
}

// Groups of items, in the order they are shown.
const (
	GroupHost     = "host"
	GroupRequired = "kvm, required"
	GroupOptional = "kvm, optional"
)

// Probe looks at this host, and at the KVM device at path ("" for the usual
// one). It takes some milliseconds.
func Probe(path string) Report {
	r := Report{
		Arch:        runtime.GOARCH,
		Kernel:      kernelRelease(),
		CPUs:        runtime.NumCPU(),
		Hypervisor:  hypervisor(),
		KVM:         KVMClass(path),
		Memory:      ReadMemory(),
		Landlock:    landlockABI(),
		Cgroup:      cgroup.Find(),
		Userfaultfd: userfaultfd(),
		TAP:         probeTAP(),
	}
	r.Items = append(r.hostItems(), kvmItems(r.KVM.Path, r.Kernel)...)
	r.Ready = true
	for _, i := range r.Items {
		if i.Required && !i.Present {
			r.Ready = false
		}
	}
	return r
}

// Missing is the items that are not there, the required ones first.
func (r *Report) Missing() (missing []Item) {
	for _, required := range []bool{true, false} {
		for _, i := range r.Items {
			if !i.Present && i.Required == required {
				missing = append(missing, i)
			}
		}
	}
	return missing
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
