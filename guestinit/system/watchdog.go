package system

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// PetWatchdog starts the machine's watchdog and sets it back, three times in each
// timeout, from then on until ctx ends: the machine is in trouble when this
// process no longer runs. The watchdog stays on after that.
func PetWatchdog(ctx context.Context, timeout time.Duration) error {
	dog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	seconds := max(int((timeout+time.Second-1)/time.Second), 1)
	if err := unix.IoctlSetPointerInt(int(dog.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		dog.Close()
		return fmt.Errorf("watchdog of %d s: %w", seconds, err)
	}
	go func() {
		defer dog.Close()
		t := time.NewTicker(time.Duration(seconds) * time.Second / 3)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				// Should it fail, the watchdog does what it is for.
				dog.Write([]byte{0})
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}
