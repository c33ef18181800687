package vmm_test

import (
	"time"

	"warder/internal/testguest"
)

// eventually calls f until it has something; a driver's work takes its time.
func eventually[T any](g *testguest.Guest, f func() (T, bool)) T {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if v, ok := f(); ok {
			return v
		}
		if time.Now().After(deadline) {
			g.Fatal("what the guest waits for does not come")
		}
	}
}
