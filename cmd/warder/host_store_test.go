package main

import (
	"testing"
	"testing/synctest"
	"time"

	"warder/secmon/event"
	"warder/secmon/event/store"
)

// An event is on disk soon, also if none comes after it; an alert at once.
func TestKeeperSyncs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k, err := keepEvents(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer k.close()
		kept := func() (n int) {
			for _, err := range store.Read(dir, store.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			return n
		}
		k.add(&event.Event{Time: 1, Kind: event.Lifecycle, Message: "a"})
		if n := kept(); n != 0 {
			t.Errorf("%d events are on disk at once", n)
		}
		time.Sleep(syncEvery)
		synctest.Wait()
		if n := kept(); n != 1 {
			t.Errorf("%d events are on disk after %v", n, syncEvery)
		}
		k.add(&event.Event{Time: 2, Kind: event.Alert, Finding: &event.Finding{}})
		if n := kept(); n != 2 {
			t.Errorf("%d events are on disk after an alert", n)
		}
	})
}
