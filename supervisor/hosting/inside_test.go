package hosting

import (
	"errors"
	"testing"
	"testing/synctest"

	"warder/supervisor/declaration"
	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// Who asks from inside a VM ends that VM's service, whoever supervises, and no other.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, newFakeHost(), runs("a", "sleep 1h"), runs("b", "sleep 1h"))
		vmOf := func(name string) VM {
			t.Helper()
			if _, err := s.Start(t.Context(), name, "me"); err != nil {
				t.Fatal(err)
			}
			vm, _, err := s.vmOf(name)
			if err != nil {
				t.Fatal(err)
			}
			return vm
		}
		old, b := vmOf("a"), vmOf("b")
		refused := func(name string, vm VM, want error) {
			t.Helper()
			if _, err := s.End(t.Context(), name, vm, "service x"); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		refused("a", b, services.ErrState)
		refused("none", b, services.ErrUnknown)
		s.kill()
		s.connect()
		if st, err := s.End(t.Context(), "a", old, "service a"); err != nil || st.Name != "a" {
			t.Errorf("%+v, %v", st, err)
		}
		if st, err := s.Wait(t.Context(), "a"); err != nil || st.State != services.Stopped || st.Why != "stopped by service a" {
			t.Errorf("%+v, %v", st, err)
		}
		refused("a", old, services.ErrState)
		vmOf("a")
		refused("a", old, services.ErrState)
		// Nor if the request is overtaken on its way to the supervisor.
		s.mu.Lock()
		late := link.Finish{VM: link.VM{Name: "a", Start: 1}, Began: s.services["a"].record.Began.Add(-1), By: "service a"}
		s.mu.Unlock()
		if err := s.ask(t.Context(), link.End, late, nil); !errors.Is(err, services.ErrState) {
			t.Errorf("of a start before: %v", err)
		}
		for _, name := range []string{"a", "b"} {
			if st, err := s.Status(t.Context(), name); err != nil || st.State != services.Running {
				t.Errorf("%+v, %v", st, err)
			}
		}
		if _, err := s.Stop(t.Context(), "a", 0, ""); err != nil {
			t.Error(err)
		}
		if _, err := s.Stop(t.Context(), "b", 0, ""); err != nil {
			t.Error(err)
		}
		s.over()
	})
}

// A VM that asks is its service, with what that is declared to be, and the policies are
// for it if the host says so.
func TestPoliciesInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, newFakeHost(), runs("a", "exit 0"), runs("b", "exit 0"))
		may := func(from, action, name string) error {
			return s.Permit(t.Context(), verify.Principal{Service: &declaration.Service{Name: from, Command: []string{"x"}, CPUs: 7}}, action, name)
		}
		check := func(what, from, action, name string, want bool) {
			t.Helper()
			err := may(from, action, name)
			if _, denied := errors.AsType[*verify.Denial](err); want && err != nil || !want && !denied {
				t.Errorf("%s: %s of %s by %s: %v", what, action, name, from, err)
			}
		}
		check("without any", "a", "stop", "a", true)
		check("without any", "a", "show", "b", false)
		if err := may("none", "show", "a"); !errors.Is(err, services.ErrUnknown) {
			t.Errorf("of no service: %v", err)
		}
		s.cfg.PolicyFile = "p.cedar"
		s.cfg.Policies = `permit (principal == Service::"a", action == Action::"show", resource == Service::"b") when { principal.cpus == 1 };`
		s.kill()
		s.connect()
		check("for users", "a", "show", "b", false)
		check("for users", "a", "stop", "a", true)
		s.cfg.Inside = true
		s.kill()
		s.connect()
		check("for all", "a", "show", "b", true)
		check("for all", "b", "show", "a", false)
		check("for all", "b", "stop", "b", true)
		if err := s.Permit(t.Context(), verify.Principal{Name: "a"}, "stop", "a"); err == nil {
			t.Error("a user of that name may do what the service may")
		}
		s.end()
	})
}
