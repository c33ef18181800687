// Package journal remembers, over the death of a host, what was asked of it.
//
// It holds the services that requests have declared, and which services were
// started and have not ended. Each change is on disk before it is acted on.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"warder/supervisor/declaration"
)

// file is the journal's in its directory.
const file = "journal.db"

var (
	declaredBucket = []byte("declared") // a service's name: Service as JSON
	runningBucket  = []byte("running")  // a service's name: Start as JSON
)

// A Journal is a file that one host has open. It is safe for concurrent use.
type Journal struct{ db *bolt.DB }

// A Service is one that a request has declared.
type Service struct {
	declaration.Service
	// Addresses are those that it has on the LAN.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// A Start is the request that started a service.
type Start struct {
	By   string    `json:"by"`
	Time time.Time `json:"time"`
}

// patience is how long another host may take to let go of the journal.
const patience = 2 * time.Second

// Open opens the journal in a directory, which is made if it is not there and is
// to be this user's alone.
func Open(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := bolt.Open(filepath.Join(dir, file), 0o600, &bolt.Options{Timeout: patience})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is used by another host: stop that one, or give this one a directory of its own", dir)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%s is damaged (%w): move it away to start without it", filepath.Join(dir, file), err)
	case err != nil:
		return nil, fmt.Errorf("journal: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(declaredBucket)
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(runningBucket)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), db.Close())
	}
	return &Journal{db}, nil
}

// Close lets go of the file.
func (j *Journal) Close() error { return j.db.Close() }

// Declared remembers a service that a request has declared, and its addresses.
func (j *Journal) Declared(d declaration.Service, has []netip.Addr) error {
	return j.put(declaredBucket, d.Name, Service{d, has})
}

// Removed forgets one.
func (j *Journal) Removed(name string) error { return j.remove(declaredBucket, name) }

// Started remembers that a service was started in the name of by.
func (j *Journal) Started(name, by string) error {
	return j.put(runningBucket, name, Start{by, time.Now()})
}

// Ended remembers that it holds nothing any more.
func (j *Journal) Ended(name string) error { return j.remove(runningBucket, name) }

func (j *Journal) put(bucket []byte, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put([]byte(name), b) })
}

func (j *Journal) remove(bucket []byte, name string) error {
	return j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(name)) })
}

// Services are those that requests have declared, by name. What cannot be read is
// left out, and the error says so.
func (j *Journal) Services() ([]Service, error) {
	all, err := entries[Service](j, declaredBucket)
	list := slices.SortedFunc(maps.Values(all), func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Running are the services that were started and have not ended, by name. What
// cannot be read is left out, and the error says so.
func (j *Journal) Running() (map[string]Start, error) { return entries[Start](j, runningBucket) }

func entries[T any](j *Journal, bucket []byte) (map[string]T, error) {
	all := make(map[string]T)
	var errs []error
	err := j.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			var t T
			if err := json.Unmarshal(v, &t); err != nil {
				errs = append(errs, fmt.Errorf("journal: %s %q: %w", bucket, k, err))
				return nil
			}
			all[string(k)] = t
			return nil
		})
	})
	return all, errors.Join(append(errs, err)...)
}
