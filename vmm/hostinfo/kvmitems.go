package hostinfo

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"warder/kvm"
)

// kvmItems is each capability that warder uses on this architecture; nothing
// where there is no KVM to ask. It asks a VM, where the answers are exact.
func kvmItems(path, release string) []Item {
	sys, err := kvm.Open(path)
	if err != nil {
		return nil
	}
	defer sys.Close()
	vm, err := sys.CreateVM(0)
	if err != nil {
		return []Item{{
			Group: GroupRequired, Name: "creating a VM", Required: true, Use: "running anything at all",
			Todo: fmt.Sprintf("the kernel refuses: %v", err),
		}}
	}
	defer vm.Close()
	var required, optional []Item
	for _, c := range kvm.Capabilities {
		since := c.Since(runtime.GOARCH)
		if since == "" {
			continue
		}
		i := capabilityItem(c, since, release, vm.Check)
		if i.Required {
			required = append(required, i)
		} else {
			optional = append(optional, i)
		}
	}
	r, o := archItems(path, vm, release)
	required, optional = append(required, r...), append(optional, o...)
	return append(required, optional...)
}

func capabilityItem(c kvm.Capability, since, release string, check func(kvm.Cap) (int, error)) Item {
	n, err := check(c.Cap)
	i := Item{
		Group: GroupOptional, Name: c.Name, Present: err == nil && n > 0,
		Required: c.Required, Since: since, Use: c.Use,
	}
	if i.Required {
		i.Group = GroupRequired
	}
	switch {
	case err != nil:
		i.Todo = "the kernel refuses to tell: " + err.Error()
	case n <= 0:
		i.Todo = todoSince(since, release)
	case n > 1 && isNumber(c.Cap):
		i.Value = strconv.Itoa(n)
	case n > 1: // a set of bits
		i.Value = fmt.Sprintf("%#x", n)
	}
	return i
}

// isNumber says whether a capability's value counts something.
func isNumber(c kvm.Cap) bool {
	switch c {
	case kvm.CapNRMemslots, kvm.CapNRVCPUs, kvm.CapMaxVCPUs, kvm.CapIRQRouting, kvm.CapARMVMIPASize,
		kvm.CapGuestDebugHWBPs, kvm.CapGuestDebugHWWPs, kvm.CapDirtyLogRing, kvm.CapDirtyLogRingAcqRel:
		return true
	}
	return false
}

// todoSince is what to do about a thing that the kernel has since a release.
func todoSince(since, release string) string {
	if older(release, since) {
		return fmt.Sprintf("a newer kernel: Linux %s has it, this is %s", since, release)
	}
	return "nothing on this host: its processor, or the configuration of its kernel, does not offer it"
}

// older says whether release is before since; false where they cannot be read.
func older(release, since string) bool {
	r, err1 := parseRelease(release)
	s, err2 := parseRelease(since)
	if err1 != nil || err2 != nil {
		return false
	}
	for i := range r {
		if r[i] != s[i] {
			return r[i] < s[i]
		}
	}
	return false
}

// parseRelease reads the numbers at the start of a release: 6.12.117+deb12 is
// 6, 12, 117; what is not there is 0.
func parseRelease(s string) (v [3]int, err error) {
	if i := strings.IndexFunc(s, func(c rune) bool { return c != '.' && (c < '0' || c > '9') }); i >= 0 {
		s = s[:i]
	}
	for i, part := range strings.SplitN(strings.Trim(s, "."), ".", 4) {
		if i == len(v) {
			break
		}
		if v[i], err = strconv.Atoi(part); err != nil {
			return v, errors.New("not a kernel release")
		}
	}
	return v, nil
}
