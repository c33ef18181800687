package hostinfo

import "warder/vmm/userfault"

// Userfaultfd is how far this user may handle page faults in user space. KVM
// faults inside the kernel, so handling those has to be allowed.
type Userfaultfd struct {
	Kernel       bool `json:"kernel"`        // faults inside the kernel may be handled
	WriteProtect bool `json:"write_protect"` // of anonymous memory
	Shared       bool `json:"shared"`        // write protection of memfds too, which guest memory is
}

func userfaultfd() Userfaultfd { return Userfaultfd(userfault.Probe()) }
