package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"warder/secmon/introspect"
)

// locateTime is how long a guest's kernel may take to show itself in the
// registers of a vCPU.
const locateTime = 5 * time.Second

// live looks into the VM's guest, which is found once for each kernel that it
// boots.
func (h *Hosted) live(ctx context.Context) (*introspect.Live, error) {
	h.looking.Lock()
	defer h.looking.Unlock()
	if h.guest != nil && h.guest.Present() {
		return h.guest, nil
	}
	k, err := introspect.Open(h.Kernel)
	var l *introspect.Live
	if err == nil {
		l, err = attach(ctx, h.target, k)
	}
	// It may have been stripped, or the guest has booted another one by itself.
	if err != nil && ctx.Err() == nil {
		var e error
		if l, e = h.unknownKernel(ctx); e != nil {
			return nil, errors.Join(err, e)
		}
	}
	if l == nil {
		return nil, err
	}
	h.guest = l
	return l, nil
}

func attach(ctx context.Context, m introspect.Machine, k *introspect.Kernel) (*introspect.Live, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTime)
	defer cancel()
	return introspect.Attach(ctx, m, k)
}

// unknownKernel finds out from the guest's memory which kernel it runs.
func (h *Hosted) unknownKernel(ctx context.Context) (*introspect.Live, error) {
	searching, cancel := context.WithTimeout(ctx, locateTime)
	defer cancel()
	k, err := introspect.FromGuest(searching, h.target, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	return attach(ctx, h.target, k)
}

// A look is one kind of question about a guest. Its answers go to put.
type look func(ctx context.Context, l *introspect.Live, q url.Values, put func(any) error) error

var looks = map[string]look{
	"ps":      all((*introspect.Live).Processes),
	"modules": all((*introspect.Live).Modules),
	"sockets": all((*introspect.Live).Sockets),
	"files":   ofProcess((*introspect.Live).Files),
	"maps":    ofProcess((*introspect.Live).Maps),
	"mounts":  ofProcess((*introspect.Live).Mounts),

	"syscalls": all((*introspect.Live).Syscalls),
	"vectors":  all((*introspect.Live).Vectors),
	"lsm":      all((*introspect.Live).LSM),
	"kallsyms": func(ctx context.Context, l *introspect.Live, _ url.Values, put func(any) error) error {
		return l.AllSymbols(ctx, func(s introspect.SymbolInfo) error { return put(s) })
	},
	"struct": structure,
}

// structure decodes the ?type= at ?at=, led on by ?path=.
func structure(ctx context.Context, l *introspect.Live, q url.Values, put func(any) error) error {
	at, err := l.Resolve(ctx, q.Get("at"))
	if err != nil {
		return err
	}
	v, err := l.Struct(ctx, q.Get("type"), at, q.Get("path"))
	if err != nil {
		return err
	}
	return put(v)
}

// all makes a look of a list.
func all[T any](list func(*introspect.Live, context.Context) ([]T, error)) look {
	return func(ctx context.Context, l *introspect.Live, _ url.Values, put func(any) error) error {
		items, err := list(l, ctx)
		return putAll(items, err, put)
	}
}

// ofProcess makes a look of a list about a process, by default the first.
func ofProcess[T any](list func(*introspect.Live, context.Context, int) ([]T, error)) look {
	return func(ctx context.Context, l *introspect.Live, q url.Values, put func(any) error) error {
		pid, err := number(q, "pid", 1)
		if err != nil {
			return err
		}
		items, err := list(l, ctx, pid)
		return putAll(items, err, put)
	}
}

func putAll[T any](items []T, err error, put func(any) error) error {
	for _, i := range items { // those that there are, beside an error
		if err := put(i); err != nil {
			return err
		}
	}
	return err
}

// number is a parameter of a request, or what it is by default.
func number(q url.Values, name string, usual int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, &Error{Code: BadRequest, Message: fmt.Sprintf("%s %q: give a number", name, s)}
	}
	return n, nil
}

// inspect answers GET /v1/vms/{vm}/inspect/{what}.
func inspect(h *Hosted, w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	f, ok := looks[what]
	if !ok {
		fail(w, &Error{Code: NotFound, Message: fmt.Sprintf("there is no %q to inspect; there are %s", what, strings.Join(slices.Sorted(maps.Keys(looks)), ", "))})
		return
	}
	stream(w, func(put func(any) error) error {
		l, err := h.live(r.Context())
		if err == nil {
			err = f(r.Context(), l, r.URL.Query(), put)
		}
		if err != nil && h.ctx.Err() != nil { // which is why, whatever it says
			return &Error{Code: NotFound, Message: fmt.Sprintf("VM %s has ended meanwhile", h.Name)}
		}
		return coded(err)
	})
}

// coded gives an error of introspection its code.
func coded(err error) error {
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		return err
	}
	for is, code := range map[error]Code{
		introspect.ErrNoProcess: NotFound, introspect.ErrExpression: BadRequest, introspect.ErrMissing: Unavailable, introspect.ErrNotLocated: Unavailable,
		introspect.ErrNoKallsyms: Unavailable, introspect.ErrNoBTF: Unavailable, introspect.ErrNotResident: Unavailable,
		introspect.ErrIncomplete: Unavailable,
	} {
		if errors.Is(err, is) {
			return &Error{Code: code, Message: err.Error()}
		}
	}
	return err
}
