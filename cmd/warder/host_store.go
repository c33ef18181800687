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
	synced time.Time
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
	return &keeper{store: s, synced: time.Now()}, nil
}

func (k *keeper) add(e *event.Event) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.store.Append(e)
	if now := time.Now(); err == nil && (e.Kind == event.Alert || now.Sub(k.synced) > syncEvery) {
		k.synced = now
		err = k.store.Sync()
	}
	k.failed(err)
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
	k.failed(k.store.Close())
	if k.lost > 0 {
		fmt.Fprintf(os.Stderr, "warder: %d events could not be kept\n", k.lost)
	}
}
