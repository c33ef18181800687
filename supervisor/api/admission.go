package api

import (
	"net"
	"net/http"
	"sync"
)

// admission counts the connections of one listener, by who made them.
type admission struct {
	most int // in all

	mu      sync.Mutex
	open    int
	of      map[string]int
	refused int // connections that are being told that there are too many
}

// A share is how many connections one of several who may connect can have.
type share struct {
	who  string
	most int
}

func newAdmission(most int) *admission { return &admission{most: most, of: make(map[string]int)} }

// enter counts a connection against all its shares, if each has room for it.
func (a *admission) enter(shares ...share) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open >= a.most {
		return false
	}
	for _, s := range shares {
		if a.of[s.who] >= s.most {
			return false
		}
	}
	a.open++
	for _, s := range shares {
		a.of[s.who]++
	}
	return true
}

func (a *admission) leave(shares ...share) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	for _, s := range shares {
		if a.of[s.who]--; a.of[s.who] == 0 {
			delete(a.of, s.who)
		}
	}
}

// maxRefused is how many connections are told why they are refused, at a time; what is
// beyond is hung up on.
const maxRefused = 32

// admit gives a connection its place, or the word that there is none. It is nil, and c
// closed, where too many are being told that already.
func (a *admission) admit(c net.Conn, shares ...share) *conn {
	if a.enter(shares...) {
		return &conn{Conn: c, done: func() { a.leave(shares...) }}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused >= maxRefused {
		c.Close()
		return nil
	}
	a.refused++
	return &conn{Conn: c, refused: true, done: func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.refused--
	}}
}

// conn is a connection that somebody known has made.
type conn struct {
	net.Conn
	peer    peer
	refused bool // one too many
	once    sync.Once
	done    func()
}

func (c *conn) Close() error {
	defer c.once.Do(c.done)
	return c.Conn.Close()
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// connOf is the connection of a request, nil if it is not known.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// admitted answers those who have a place.
func admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connOf(r); c != nil && c.refused {
			w.Header().Set("Connection", "close")
			fail(w, &Error{Code: Busy, Message: "too many connections: some of those that are open have to end first"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
