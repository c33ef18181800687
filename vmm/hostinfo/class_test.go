package hostinfo

import (
	"errors"
	"testing"
)

// TestMeasure times loops on machines that let them wait now and then.
func TestMeasure(t *testing.T) {
	times := func(ns ...float64) func() (float64, error) {
		return func() (float64, error) {
			next := ns[0]
			if len(ns) > 1 {
				ns = ns[1:]
			}
			return next, nil
		}
	}
	for name, tt := range map[string]struct {
		guest, native []float64
		want          Class
	}{
		"hardware":                     {[]float64{2}, []float64{2}, Hardware},
		"emulating":                    {[]float64{2000}, []float64{2}, Emulating},
		"hardware, guest delayed":      {[]float64{2000, 900, 3}, []float64{2}, Hardware},
		"emulating, guest delayed too": {[]float64{9000, 2000}, []float64{2}, Emulating},
		"emulating, host delayed once": {[]float64{2000}, []float64{50, 2}, Emulating},
	} {
		var k KVM
		if err := k.measure(times(tt.guest...), times(tt.native...)); err != nil {
			t.Fatal(err)
		}
		if k.judge(); k.Class != tt.want {
			t.Errorf("%s: %+v", name, k)
		}
	}
	var k KVM
	broken := errors.New("broken")
	if err := k.measure(func() (float64, error) { return 0, broken }, times(1)); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
