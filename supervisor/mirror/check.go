package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"warder/secmon/integrity"
	"warder/secmon/introspect"
	"warder/secmon/trap"
)

const (
	// checkEvery is the default of VMs.CheckEvery.
	checkEvery = 30 * time.Second
	// checkTime is how long a check may take: many times what it takes on a machine that
	// is slow and busy. A guest whose records are made to be walked for ever is not sound.
	checkTime = 5 * time.Minute
	// maxChanges is how many of what has changed are told.
	maxChanges = 3
)

var errUnsound = errors.New("it fails its integrity check")

// check looks whether there is anything in the VM but what it was made with, until it is halted.
func (v *machine) check(programs map[string][]byte) {
	m := v.vm.Machine()
	b, err := v.baseline(integrity.Config{
		Programs: programs,
		Unhook:   func(at uint64, code []byte) { trap.Unhook(trap.Of(m), at, code) },
	})
	if err != nil {
		if v.checking.Err() == nil {
			v.makes.Unchecked(err.Error())
		}
		return
	}
	every := time.NewTicker(cmp.Or(v.makes.CheckEvery, checkEvery))
	defer every.Stop()
	for {
		soon, cancel := context.WithTimeout(v.checking, checkTime)
		changes, err := b.Check(soon)
		cancel()
		if v.checking.Err() != nil {
			return
		}
		if err != nil {
			v.lose(fmt.Errorf("%w: it was not over after %v", errUnsound, checkTime))
			return
		}
		if n := len(changes); n > 0 {
			said := make([]string, 0, maxChanges)
			for _, c := range changes[:min(n, maxChanges)] {
				said = append(said, c.String())
			}
			if n > maxChanges {
				said = append(said, fmt.Sprintf("%d more", n-maxChanges))
			}
			v.lose(fmt.Errorf("%w: %s", errUnsound, strings.Join(said, "; ")))
			return
		}
		select {
		case <-every.C:
		case <-v.checking.Done():
			return
		}
	}
}

// baseline is how the VM is now.
func (v *machine) baseline(cfg integrity.Config) (*integrity.Baseline, error) {
	kernel, err := introspect.OpenWhole(v.vm.Kernel())
	if err != nil {
		return nil, err
	}
	live, err := introspect.Attach(v.checking, introspect.Of(v.vm.Machine()), kernel)
	if err != nil {
		return nil, err
	}
	return integrity.Take(v.checking, live, cfg)
}
