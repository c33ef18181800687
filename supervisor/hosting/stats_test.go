package hosting

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/services"
)

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		s := supervise(t, h, runs("b", "sleep 1h"), runs("a", "sleep 1h"), runs("deaf", "deaf sleep 1h"), runs("off", "exit 0"))
		for _, name := range []string{"a", "b", "deaf"} {
			if _, err := s.Start(t.Context(), name, "me"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		began := time.Now()
		list, err := s.Stats(t.Context(), "")
		if err != nil || len(list) != 3 || list[0].Name != "a" || list[1].Name != "b" || list[2].Name != "deaf" {
			t.Fatalf("%+v, %v", list, err)
		}
		if a := list[0]; a.State != services.Running || a.Starts != 1 || a.CPUTime < time.Minute || a.Guest == nil || a.Guest.Processes != 7 {
			t.Errorf("%+v", a)
		}
		if list[2].Guest != nil || list[2].VCPUs != 1 || time.Since(began) > guestWord {
			t.Errorf("of a guest that does not answer, after %v: %+v", time.Since(began), list[2])
		}
		if list, err = s.Stats(t.Context(), "b"); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		if list, err = s.Stats(t.Context(), "off"); err != nil || len(list) != 0 {
			t.Errorf("of a service that has no VM: %+v, %v", list, err)
		}
		if _, err = s.Stats(t.Context(), "none"); !errors.Is(err, services.ErrUnknown) {
			t.Error(err)
		}
		s.end()
	})
}
