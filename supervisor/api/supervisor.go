package api

import (
	"context"
	"encoding/json"
	"net/http"

	"warder/supervisor/mirror"
)

// Supervise has the server answer for the host's supervisor too. It is called before
// anybody asks, once.
func (s *Server) Supervise(k *mirror.Keeper) { s.supervisor.Store(k) }

// ofSupervisor makes a handler of requests about the supervisor.
func (s *Server) ofSupervisor(f func(k *mirror.Keeper, w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k := s.supervisor.Load()
		if k == nil {
			fail(w, &Error{Code: NoServices, Message: "this process has no supervisor"})
			return
		}
		if err := f(k, w, r); err != nil {
			fail(w, err)
		}
	}
}

func showSupervisor(k *mirror.Keeper, w http.ResponseWriter, _ *http.Request) error {
	reply(w, k.Status())
	return nil
}

// mirrorSupervisor answers when another one does.
func mirrorSupervisor(k *mirror.Keeper, w http.ResponseWriter, r *http.Request) error {
	reason := "asked for"
	if c := connOf(r); c != nil {
		reason += " by " + c.peer.String()
	}
	return replyTo[mirror.Status](w)(k.Mirror(r.Context(), reason))
}

// Supervisor tells of the host's supervisor.
func (h *Host) Supervisor(ctx context.Context) (st mirror.Status, err error) {
	return st, h.client.get(ctx, "/v1/supervisor", nil, &st)
}

// Mirror has the host's supervisor replaced by a clean one, and waits for that.
func (h *Host) Mirror(ctx context.Context) (st mirror.Status, err error) {
	resp, err := h.client.do(ctx, http.MethodPost, "/v1/supervisor/mirror", nil, nil)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}
