// Package testkvm is what tests that need /dev/kvm have in common.
//
// Such a test runs directly where it can. Elsewhere it skips with [Marker] in
// the message, which the test runner takes as a promise: the same test has to
// pass in the lab, an outer machine with a true KVM. There, with WARDER_LAB=1
// in the environment, nothing skips: what is missing is a failure.
package testkvm

import (
	"os"
	"sync"
	"testing"

	"warder/kvm"
	"warder/vmm/hostinfo"
)

// Marker stands in the message of each skip.
const Marker = "runs in the lab"

// InLab says whether this is the lab.
func InLab() bool { return os.Getenv("WARDER_LAB") == "1" }

// Need makes sure that there is a KVM fast enough for a whole operating system.
func Need(t testing.TB) {
	t.Helper()
	if c := class(); c.Class != hostinfo.Hardware {
		Missing(t, c.Reason)
	}
}

var class = sync.OnceValue(func() hostinfo.KVM { return hostinfo.KVMClass(kvm.Path) })

// Open opens /dev/kvm, of any class: one that emulates does for a guest of a few
// thousand instructions.
func Open(t testing.TB) *kvm.System {
	t.Helper()
	s, err := kvm.Open("")
	if err != nil {
		Missing(t, err.Error())
	}
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// NeedCap makes sure that a system or a VM has a capability, and returns its
// value.
func NeedCap(t testing.TB, in interface{ Check(kvm.Cap) (int, error) }, c kvm.Cap) int {
	t.Helper()
	n, err := in.Check(c)
	if err != nil {
		t.Fatal(err)
	}
	if n <= 0 {
		Missing(t, "this KVM has no "+c.String())
	}
	return n
}

// NeedHardware makes sure that there is a KVM on a real processor, for the few
// things that no emulated one of the lab has. what says which.
func NeedHardware(t testing.TB, what string) {
	t.Helper()
	if InLab() {
		t.Skip("needs hardware: " + what)
	}
	Need(t)
}

// OnHost is for a test of what is only where the test was built, such as source
// code: the lab skips it, and the test runner asks that it passed on the host.
func OnHost(t testing.TB, what string) {
	t.Helper()
	if InLab() {
		t.Skip("runs on the host: " + what)
	}
}

// Missing ends the test: as a failure in the lab, as a marked skip elsewhere.
func Missing(t testing.TB, what string) {
	t.Helper()
	if InLab() {
		t.Fatalf("the lab lacks what this test needs: %s", what)
	}
	t.Skipf("%s: %s", Marker, what)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
