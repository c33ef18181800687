package vmm_test

import (
	"errors"
	"math"
	"os"
	"testing"

	"warder/vmm"
)

func TestCPULimitsAreChecked(t *testing.T) {
	for _, cfg := range []vmm.Config{{CPUWeight: 10001}, {CPUMax: -1}, {CPUMax: 0.001}, {CPUMax: math.NaN()}} {
		cfg.Kernel = "none"
		if _, err := vmm.New(cfg); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
