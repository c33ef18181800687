package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// HostServices has the server answer for services too. It is called before
// anybody asks, once.
func (s *Server) HostServices(host *hosting.Host) { s.services.Store(host) }

// ofServices makes a handler of requests about services.
func (s *Server) ofServices(f func(host *hosting.Host, w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host := s.services.Load()
		if host == nil {
			fail(w, &Error{Code: NoServices, Message: "this process hosts no services"})
			return
		}
		if err := f(host, w, r); err != nil {
			fail(w, codedService(err))
		}
	}
}

// codedService gives an error about services its code.
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

func listServices(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	return replyTo[[]services.Status](w)(host.List(r.Context()))
}

func showService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	return replyTo[services.Status](w)(host.Status(r.Context(), r.PathValue("service")))
}

// addService takes the declaration in the request's body; the paths in it are
// relative to the directory ?base=.
func addService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
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
	st, err := host.Add(r.Context(), d)
	if err != nil {
		if e, ok := codedService(err).(*Error); ok {
			return e
		}
		return &Error{Code: BadRequest, Message: err.Error()}
	}
	reply(w, st)
	return nil
}

func removeService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	return replyTo[services.Status](w)(host.Remove(r.Context(), r.PathValue("service")))
}

// startService waits for ?patience= at most for what the machine does not have.
func startService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	patience, err := duration(r, "patience")
	if err != nil {
		return err
	}
	return replyTo[services.Status](w)(host.StartWhenFree(r.Context(), r.PathValue("service"), by(r), patience))
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
func stopService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	timeout, err := duration(r, "timeout")
	if err != nil {
		return err
	}
	name := r.PathValue("service")
	if c := connOf(r); c != nil {
		if vm, ok := c.peer.(serviceVM); ok && vm.service.Name == name {
			return replyTo[services.Status](w)(host.End(r.Context(), name, vm.vm, by(r)))
		}
	}
	return replyTo[services.Status](w)(host.Stop(r.Context(), name, timeout, by(r)))
}

func waitService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	return replyTo[services.Status](w)(host.Wait(r.Context(), r.PathValue("service")))
}

// replyTo answers with what was asked for, unless that went wrong.
func replyTo[T any](w http.ResponseWriter) func(T, error) error {
	return func(v T, err error) error {
		if err == nil {
			reply(w, v)
		}
		return err
	}
}

// serviceLogs streams the last ?lines= of what a service said, all without it,
// and with ?follow= what it says from then on.
func serviceLogs(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := number(q, "lines", -1)
	if err != nil {
		return err
	}
	name, follow := r.PathValue("service"), q.Get("follow") != ""
	if err := host.Known(name); err != nil {
		return err
	}
	stream(w, func(put func(any) error) error {
		if err := begin(w, follow); err != nil {
			return err
		}
		return codedService(host.Logs(r.Context(), name, n, follow, func(l hosting.Line) error {
			return putNow(w, follow, put, l)
		}))
	})
	return nil
}

// serviceEvents streams what has happened, to ?service= if it is given, and with
// ?follow= what happens from then on.
func serviceEvents(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	name, follow := q.Get("service"), q.Get("follow") != ""
	if name != "" {
		if err := host.Known(name); err != nil {
			return err
		}
	}
	stream(w, func(put func(any) error) error {
		if err := begin(w, follow); err != nil {
			return err
		}
		return codedService(host.Events(r.Context(), name, follow, func(e hosting.Event) error {
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
func serviceConsole(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	said, err := host.Console(r.PathValue("service"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(said) // an error is the client's, who is gone
	return nil
}

func showResources(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	return replyTo[verify.Balance](w)(host.Balance(r.Context()))
}

// serviceStats tells what services use that have a VM, or the one ?service=.
func serviceStats(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	list, err := host.Stats(r.Context(), r.URL.Query().Get("service"))
	if err == nil {
		reply(w, list)
	}
	return err
}
