package vmm_test

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

var waits = testguest.Register("waits", func(g *testguest.Guest) {
	g.Report("up", nil)
	for {
		unix.Pause()
	}
})

// TestTranslationAgreesWithKVM translates addresses of a Linux guest, near those
// in its registers and anywhere, and has KVM do the same.
func TestTranslationAgreesWithKVM(t *testing.T) {
	r := waits.Start(t, vmm.Config{})
	r.Event("up")
	err := r.WithVCPUsStopped(func() error {
		v := r.VCPU(0)
		space, err := v.AddressSpace()
		if err != nil {
			return err
		}
		cache := space.Cached()
		entry, err := v.SyscallEntry()
		if err != nil {
			return err
		}
		bases := []uint64{entry, 0xffff_8880_0000_0000, 0}
		for _, name := range []string{"rip", "rsp", "gsbase", "fsbase", "idt"} {
			at, err := v.Register(name)
			if err != nil {
				return err
			}
			bases = append(bases, at)
		}
		random := rand.New(rand.NewPCG(1, 2))
		mapped := 0
		for i := range 8000 {
			va := bases[i%len(bases)]&^7 + 8*random.Uint64N(1<<random.UintN(20))
			if i%5 == 0 {
				va ^= 1 << random.UintN(47) // KVM takes what is not canonical
			}
			want, ok, err := v.TranslateByKVM(va)
			if err != nil {
				return err
			}
			m, err := space.Translate(r.Memory(), va)
			if err == nil && m.User && !ok {
				continue // KVM asks as the kernel would, which SMAP keeps from users' pages
			}
			if (err == nil) != ok || ok && m.Addr != want {
				t.Errorf("%#x is at %#x (%v), by KVM at %#x (%v)", va, m.Addr, err, want, ok)
			}
			if at, err := cache.Translate(r.Memory(), va); (err == nil) != ok || ok && at != want {
				t.Errorf("%#x is at %#x by the cache (%v), by KVM at %#x (%v)", va, at, err, want, ok)
			}
			if ok {
				mapped++
			}
		}
		if mapped < 1000 || mapped == 8000 {
			t.Errorf("%d of 8000 addresses are mapped", mapped)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
