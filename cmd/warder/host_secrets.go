package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"warder/guestinit/proto"
	"warder/guestinit/secret"
	"warder/secmon/event"
	"warder/supervisor/declaration"
)

// secretsConfig is where the secrets come from that services may ask for, by their
// names: file:PATH, which is read when one asks, or env:VARIABLE of this process.
type secretsConfig map[string]string

// Where a secret can be from.
const (
	fromFile = "file"
	fromEnv  = "env"
)

// maxSecrets is how many a host may have.
const maxSecrets = 256

// check makes paths absolute and says what is wrong.
func (c secretsConfig) check(base string) error {
	if len(c) > maxSecrets {
		return &declaration.Problem{Path: "secrets", Text: fmt.Sprintf("%d secrets: give at most %d", len(c), maxSecrets)}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c)) {
		bad := func(format string, args ...any) {
			errs = append(errs, &declaration.Problem{Path: "secrets." + name, Text: fmt.Sprintf(format, args...)})
		}
		kind, at, _ := strings.Cut(c[name], ":")
		switch {
		case !secret.GoodName(name):
			errs = append(errs, &declaration.Problem{Path: "secrets", Text: fmt.Sprintf("%q: a name has letters, digits, _, and - and . inside, at most 63", name)})
		case kind == fromEnv && at != "":
			if _, ok := os.LookupEnv(at); !ok {
				bad("there is no %s in this environment", at)
			}
		case kind == fromFile && at != "":
			path, err := absolute(base, at)
			if err != nil {
				bad("%v", err)
				continue
			}
			c[name] = fromFile + ":" + path
		default:
			bad("say where it is from, file:PATH or env:VARIABLE") // it may be the secret itself
		}
	}
	return errors.Join(errs...)
}

// vault has the secrets of a host.
type vault struct {
	files  map[string]string // paths
	values map[string][]byte // those of the environment
}

// open takes the secrets of the environment out of it: programs that this process
// starts do not get them.
func (c secretsConfig) open() *vault {
	v := &vault{make(map[string]string), make(map[string][]byte)}
	var taken []string
	for name, from := range c {
		kind, at, _ := strings.Cut(from, ":")
		if kind == fromFile {
			v.files[name] = at
			continue
		}
		v.values[name] = []byte(os.Getenv(at))
		taken = append(taken, at)
	}
	for _, variable := range taken { // several may be of one
		os.Unsetenv(variable)
	}
	return v
}

// has tells whether there is a secret of the name.
func (v *vault) has(name string) bool {
	_, file := v.files[name]
	_, value := v.values[name]
	return file || value
}

// get gives a copy of a secret.
func (v *vault) get(name string) ([]byte, error) {
	if value, ok := v.values[name]; ok {
		return slices.Clone(value), nil
	}
	path, ok := v.files[name]
	if !ok {
		return nil, fmt.Errorf("the host has no secret %s", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", path)
	case st.Mode()&0o004 != 0:
		return nil, fmt.Errorf("everybody can read %s, which is to be a secret: chmod o-r %s", path, filepath.Clean(path))
	case st.Size() > secret.MaxSize:
		return nil, fmt.Errorf("%s has %d bytes: a secret has %d at most", path, st.Size(), secret.MaxSize)
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		clear(b)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// missing says which secret of a service the host does not have.
func (v *vault) missing(names []string) error {
	for _, name := range names {
		if !v.has(name) {
			return fmt.Errorf("secret %s: the host's configuration has none of that name: say under secrets where it is from", name)
		}
	}
	return nil
}

// Actions of events about secrets.
const (
	secretGiven   = "secret-given"
	secretRefused = "secret-refused"
	secretFailed  = "secret-failed"
)

// secretFor answers what a VM asks for: what it is declared to get, and an event
// each time.
func (h *host) secretFor(v hostVM) func(string) ([]byte, error) {
	limit := &askLimit{}
	return func(name string) ([]byte, error) {
		ok, held := limit.take(time.Now())
		if !ok {
			return nil, proto.Errorf(proto.CodeBusy, "asked for too often: wait")
		}
		tell := func(action, message string) {
			if held > 0 {
				message += fmt.Sprintf("; before it %d questions were not answered, of too many", held)
			}
			h.watch.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: v.Name, Action: action, Message: message})
		}
		if !slices.Contains(v.Secrets, name) {
			tell(secretRefused, fmt.Sprintf("asked for the secret %s, which it is not declared to get", name))
			return nil, proto.Errorf(proto.CodeRefused, "this VM is not declared to get the secret %s", name)
		}
		value, err := h.vault.get(name)
		if err != nil {
			tell(secretFailed, fmt.Sprintf("was to get the secret %s: %v", name, err))
			return nil, err
		}
		tell(secretGiven, "got the secret "+name)
		return value, nil
	}
}

// askLimit bounds how often a VM is answered, and with it the events of that.
type askLimit struct {
	mu   sync.Mutex
	used int // of askBurst
	last time.Time
	held uint64 // since the last answer
}

// askBurst is how many questions are answered at once, and another one each second.
const askBurst = 64

// take tells whether to answer now, and then how many were not answered since it last
// did.
func (l *askLimit) take(now time.Time) (ok bool, held uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if back := int(now.Sub(l.last) / time.Second); back > 0 {
		l.used, l.last = max(l.used-back, 0), now
	}
	if l.used >= askBurst {
		l.held++
		return false, 0
	}
	l.used++
	held, l.held = l.held, 0
	return true, held
}
