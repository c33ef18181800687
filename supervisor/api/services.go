package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// HostServices has the server answer for services too. It is called before
// anybody asks, once.
func (s *Server) HostServices(set *services.Set) { s.services.Store(set) }

// ofServices makes a handler of requests about services.
func (s *Server) ofServices(f func(set *services.Set, w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		set := s.services.Load()
		if set == nil {
			fail(w, &Error{Code: NoServices, Message: "this process hosts no services"})
			return
		}
		if err := f(set, w, r); err != nil {
			fail(w, codedService(err))
		}
	}
}

// codedService gives an error of a set of services its code.
func codedService(err error) error {
	if r, ok := errors.AsType[*verify.Refusal](err); ok {
		return &Error{Code: Refused, Message: r.Error(), Refusal: r}
	}
	for is, code := range map[error]Code{services.ErrUnknown: NotFound, services.ErrState: Unavailable, services.ErrClosed: Unavailable} {
		if errors.Is(err, is) {
			return &Error{Code: code, Message: err.Error()}
		}
	}
	return err
}

// by names who asks.
func by(r *http.Request) string {
	if c := connOf(r); c != nil {
		return c.peer.String()
	}
	return "nobody"
}

func listServices(set *services.Set, w http.ResponseWriter, _ *http.Request) error {
	reply(w, set.List())
	return nil
}

func showService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	return replyTo(w)(set.Status(r.PathValue("service")))
}

// addService takes the declaration in the request's body; the paths in it are
// relative to the directory ?base=.
func addService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	src, err := io.ReadAll(http.MaxBytesReader(w, r.Body, declaration.MaxFile))
	if err != nil {
		return &Error{Code: BadRequest, Message: fmt.Sprintf("the declaration: %v", err)}
	}
	d, err := declaration.Parse(src)
	if err != nil {
		return &Error{Code: BadRequest, Message: err.Error()}
	}
	name := r.PathValue("service")
	if d.Name != name {
		return &Error{Code: BadRequest, Message: fmt.Sprintf("the declaration is of %s, not of %q", d.Name, name)}
	}
	base := r.URL.Query().Get("base")
	if !filepath.IsAbs(base) {
		return &Error{Code: BadRequest, Message: fmt.Sprintf("base %q: give an absolute path", base)}
	}
	d.Resolve(base)
	if err := set.Add(d); err != nil {
		if e, ok := codedService(err).(*Error); ok {
			return e
		}
		return &Error{Code: BadRequest, Message: err.Error()}
	}
	return replyTo(w)(set.Status(name))
}

func removeService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("service")
	status, err := set.Status(name)
	if err == nil {
		err = set.Remove(name)
	}
	return replyTo(w)(status, err)
}

// startService waits for ?patience= at most for what the machine does not have.
func startService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	patience, err := duration(r, "patience")
	if err != nil {
		return err
	}
	return replyTo(w)(set.StartWhenFree(r.Context(), r.PathValue("service"), by(r), patience))
}

// duration is a time in the query, 0 when it is not there.
func duration(r *http.Request, name string) (time.Duration, error) {
	t := r.URL.Query().Get(name)
	if t == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(t)
	if err != nil || d <= 0 {
		return 0, &Error{Code: BadRequest, Message: fmt.Sprintf("%s %q: give a time, as in 30s", name, t)}
	}
	return d, nil
}

// stopService gives the service ?timeout= to end. One that ends itself is answered
// before it has ended.
func stopService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	timeout, err := duration(r, "timeout")
	if err != nil {
		return err
	}
	name := r.PathValue("service")
	if c := connOf(r); c != nil {
		if vm, ok := c.peer.(serviceVM); ok && vm.service.Name == name {
			return replyTo(w)(set.End(name, vm.vm, by(r)))
		}
	}
	return replyTo(w)(set.Stop(r.Context(), name, timeout, by(r)))
}

func waitService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	return replyTo(w)(set.Wait(r.Context(), r.PathValue("service")))
}

func replyTo(w http.ResponseWriter) func(services.Status, error) error {
	return func(st services.Status, err error) error {
		if err == nil {
			reply(w, st)
		}
		return err
	}
}

// serviceLogs streams the last ?lines= of what a service said, all without it,
// and with ?follow= what it says from then on.
func serviceLogs(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := number(q, "lines", -1)
	if err != nil {
		return err
	}
	name, follow := r.PathValue("service"), q.Get("follow") != ""
	if _, err := set.Status(name); err != nil {
		return err
	}
	stream(w, func(put func(any) error) error {
		if err := begin(w, follow); err != nil {
			return err
		}
		return codedService(set.Logs(r.Context(), name, n, follow, func(l services.Line) error {
			return putNow(w, follow, put, l)
		}))
	})
	return nil
}

// serviceEvents streams what has happened, to ?service= if it is given, and with
// ?follow= what happens from then on.
func serviceEvents(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	name, follow := q.Get("service"), q.Get("follow") != ""
	if name != "" {
		if _, err := set.Status(name); err != nil {
			return err
		}
	}
	stream(w, func(put func(any) error) error {
		if err := begin(w, follow); err != nil {
			return err
		}
		return codedService(set.Events(r.Context(), name, follow, func(e services.Event) error {
			return putNow(w, follow, put, e)
		}))
	})
	return nil
}

// begin has who follows know that there is a stream, before there is anything in it.
func begin(w http.ResponseWriter, follow bool) error {
	if !follow {
		return nil
	}
	return http.NewResponseController(w).Flush()
}

// putNow puts a value, and has it sent at once to who follows.
func putNow(w http.ResponseWriter, follow bool, put func(any) error, v any) error {
	if err := put(v); err != nil || !follow {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// serviceConsole answers with the last that a guest's kernel said, as it came.
func serviceConsole(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	said, err := set.Console(r.PathValue("service"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(said) // an error is the client's, who is gone
	return nil
}

func showResources(set *services.Set, w http.ResponseWriter, _ *http.Request) error {
	reply(w, set.Balance())
	return nil
}

// serviceStats tells what services use that have a VM, or the one ?service=.
func serviceStats(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	list, err := set.Stats(r.Context(), r.URL.Query().Get("service"))
	if err == nil {
		reply(w, list)
	}
	return err
}
