package vmm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"warder/devices/watchdog"
)

// A WatchdogAction is what becomes of a machine whose guest has not set its
// watchdog back in time. Each expiry is logged and counted, too.
type WatchdogAction string

const (
	// WatchdogLog does nothing else.
	WatchdogLog WatchdogAction = "log"
	// WatchdogPause stops the vCPUs, for somebody to look.
	WatchdogPause WatchdogAction = "pause"
	// WatchdogReset ends the machine as if the guest had asked for a reset.
	WatchdogReset WatchdogAction = "reset"
	// WatchdogKill ends it as [Hung].
	WatchdogKill WatchdogAction = "kill"
)

func (a WatchdogAction) check() error {
	switch a {
	case "", WatchdogLog, WatchdogPause, WatchdogReset, WatchdogKill:
		return nil
	}
	return fmt.Errorf("watchdog %q: give %s, %s, %s or %s", string(a), WatchdogLog, WatchdogPause, WatchdogReset, WatchdogKill)
}

// watchdogState is a machine's watchdog.
type watchdogState struct {
	watchdog *watchdog.SP805 // nil without one
	stopping sync.Mutex
	stoppers map[any]bool // who has it stand still
	expiries atomic.Uint64
	logged   atomic.Int64 // when the latest line was, in Unix nanoseconds
}

// quiet is how long nothing is logged of the watchdog after a line was: the guest
// decides how often it expires.
const quiet = 10 * time.Second

func (m *Machine) addWatchdog() error {
	if m.cfg.Watchdog == "" {
		return nil
	}
	m.watchdog = watchdog.New(m.watchdogExpired)
	m.onClose(m.watchdog.Close)
	return m.mmio.Add(watchdogBase, watchdog.Size, m.watchdog)
}

// stopWatchdog has the watchdog stand still as long as one of those who have
// called it does not have it go on.
func (m *Machine) stopWatchdog(who any) {
	m.stopping.Lock()
	defer m.stopping.Unlock()
	if m.watchdog == nil || m.stoppers[who] {
		return
	}
	if len(m.stoppers) == 0 {
		m.watchdog.Freeze()
		m.stoppers = map[any]bool{}
	}
	m.stoppers[who] = true
}

func (m *Machine) startWatchdog(who any) {
	m.stopping.Lock()
	defer m.stopping.Unlock()
	if !m.stoppers[who] {
		return
	}
	delete(m.stoppers, who)
	if len(m.stoppers) == 0 {
		m.watchdog.Thaw()
	}
}

func (m *Machine) watchdogExpired() {
	m.expiries.Add(1)
	last, now := m.logged.Load(), time.Now().UnixNano()
	if now-last >= int64(quiet) && m.logged.CompareAndSwap(last, now) {
		m.log.Warn("the guest's watchdog expired", "action", string(m.cfg.Watchdog), "expiries", m.expiries.Load())
	}
	switch m.cfg.Watchdog {
	case WatchdogPause:
		if err := m.Pause(); err != nil && !m.hasEnded() {
			m.log.Warn("could not pause after the watchdog expired", "err", err)
		}
	case WatchdogReset:
		m.end(Exit{Reason: Reset, Err: errHung})
	case WatchdogKill:
		m.end(Exit{Reason: Hung, Err: errHung})
	}
}

var errHung = errors.New("the guest did not set its watchdog back in time")
