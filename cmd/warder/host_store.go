package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"warder/secmon/event"
	"warder/secmon/event/store"
)

// keeper writes events to a store. A nil one writes none. What cannot be
// written is said once, counted, and does not stop the host.
type keeper struct {
	store *store.Store

	mu     sync.Mutex
	timer  *time.Timer // of the next sync; nil when there is nothing to sync
	closed bool
	lost   int
}

// syncEvery is how long an event may be only in memory. Alerts are on disk at
// once.
const syncEvery = time.Second

// keepEvents opens the store in a directory, "" for none.
func keepEvents(dir string) (*keeper, error) {
	if dir == "" {
		return nil, nil
	}
	s, err := store.Open(dir, store.Limits{})
	if err != nil {
		return nil, err
	}
	return &keeper{store: s}, nil
}

func (k *keeper) add(e *event.Event) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.store.Append(e); err != nil {
		k.failed(err)
		return
	}
	switch {
	case e.Kind == event.Alert:
		k.failed(k.store.Sync())
	case k.timer == nil:
		k.timer = time.AfterFunc(syncEvery, k.sync)
	}
}

// sync has on disk what was only in memory for long enough.
func (k *keeper) sync() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = nil
	if !k.closed {
		k.failed(k.store.Sync())
	}
}

func (k *keeper) failed(err error) {
	if err == nil {
		return
	}
	if k.lost++; k.lost == 1 {
		fmt.Fprintln(os.Stderr, "warder:", err)
	}
}

func (k *keeper) close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.failed(k.store.Close())
	if k.lost > 0 {
		fmt.Fprintf(os.Stderr, "warder: %d events could not be kept\n", k.lost)
	}
}
