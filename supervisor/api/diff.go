package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/secmon/introspect"
)

const (
	// maxOwn bounds what a guest may say of itself, in bytes.
	maxOwn = 32 << 20
	// ownTime is how long it may take for that.
	ownTime = 30 * time.Second
)

// diff answers GET /v1/vms/{vm}/diff with the differences between what the
// guest's /proc says, asked through PID 1, and what its memory says.
func diff(h *Hosted, w http.ResponseWriter, r *http.Request) {
	stream(w, func(put func(any) error) error {
		if h.Service == nil {
			return &Error{Code: Unavailable, Message: "nobody in this guest can be asked for its own view: it does not run warder's PID 1"}
		}
		l, err := h.live(r.Context())
		if err != nil {
			return coded(err)
		}
		all, err := l.Compare(r.Context(), h.own)
		return putAll(all, coded(err), put)
	})
}

// own asks the guest for its own view.
func (h *Hosted) own(ctx context.Context) (introspect.OwnView, error) {
	ctx, cancel := context.WithTimeout(ctx, ownTime)
	defer cancel()
	// The shell itself lists the names; grep puts that of its file before each line.
	script := "cd /proc && echo * && grep '' " + strings.Join(introspect.OwnFiles, " ")
	out := &limited{}
	_, err := h.Service.Run(ctx, proto.Command{Args: []string{"sh", "-c", script}}, control.Stdio{Out: out})
	if err != nil {
		return introspect.OwnView{}, err
	}
	names, rest, _ := strings.Cut(out.String(), "\n")
	lines := make(map[string][]string)
	for line := range strings.Lines(rest) {
		name, text, _ := strings.Cut(line, ":")
		lines[name] = append(lines[name], text)
	}
	files := make(map[string]string)
	for name, l := range lines {
		files[name] = strings.Join(l, "")
	}
	return introspect.ParseOwn(strings.Fields(names), files), nil
}

// limited keeps what a guest says, up to maxOwn.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxOwn {
		return 0, fmt.Errorf("the guest says more than %d bytes", maxOwn)
	}
	return l.Buffer.Write(p)
}
