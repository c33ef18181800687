// Package dhcp keeps the IPv4 address that a DHCP server lends an interface (RFC
// 2131), for as long as the machine runs.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	// answerTime is how long a server has for an answer at first; the time doubles
	// with each of the tries.
	answerTime = time.Second
	tries      = 4
	// retryTime is the least wait after an exchange without an answer; while there
	// is a lease it is half of what is left of it (RFC 2131, 4.4.5).
	retryTime = time.Minute
)

// A Client is the lease of one interface.
type Client struct {
	// Interface is its name. It has to be up.
	Interface string
	// Hostname is told to the server, if set.
	Hostname string
	// Apply is given what is leased, each time that it was renewed or is another;
	// the zero Lease when it is lost.
	Apply func(Lease) error
	// Log is told what goes wrong once there was a lease.
	Log func(error)

	open func() (exchange, error) // in place of a socket, by tests

	acknowledged *nclient4.Lease // nil: none
	renewal, end time.Time       // of it; zero for one that is for ever
}

// An exchange is what goes to a server and back.
type exchange interface {
	Request(context.Context, ...dhcpv4.Modifier) (*nclient4.Lease, error)
	Renew(context.Context, *nclient4.Lease, ...dhcpv4.Modifier) (*nclient4.Lease, error)
	Close() error
}

// Acquire asks for a lease and applies it. It gives up after some 15 seconds.
func (c *Client) Acquire(ctx context.Context) error {
	err := c.ask(ctx, exchange.Request)
	if errors.Is(err, nclient4.ErrNoResponse) {
		return fmt.Errorf("DHCP on %s: no server answers", c.Interface)
	}
	if err != nil {
		return fmt.Errorf("DHCP on %s: %w", c.Interface, err)
	}
	return nil
}

// Keep renews the lease until ctx ends, which gives it up without a word. A lease
// that is lost is asked for again.
func (c *Client) Keep(ctx context.Context) {
	for next := c.renewal; !next.IsZero(); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		err := c.again(ctx)
		if next = c.renewal; err != nil {
			c.Log(fmt.Errorf("DHCP on %s: %w", c.Interface, err))
			next = time.Now().Add(max(retryTime, time.Until(c.end)/2))
			if c.acknowledged != nil && c.end.Before(next) {
				next = c.end
			}
		}
	}
}

// again renews the lease while it lasts, and gets a new one when it does not.
func (c *Client) again(ctx context.Context) error {
	if c.acknowledged != nil && time.Now().Before(c.end) {
		lasting, cancel := context.WithDeadline(ctx, c.end)
		defer cancel()
		err := c.ask(lasting, func(e exchange, ctx context.Context, m ...dhcpv4.Modifier) (*nclient4.Lease, error) {
			return e.Renew(ctx, c.acknowledged, m...)
		})
		if _, refused := errors.AsType[*nclient4.ErrNak](err); !refused {
			return err
		}
		c.Log(fmt.Errorf("DHCP on %s: %w", c.Interface, err))
	}
	if c.acknowledged != nil {
		c.acknowledged = nil
		if err := c.Apply(Lease{}); err != nil {
			return err
		}
	}
	return c.ask(ctx, exchange.Request)
}

// ask makes one exchange and applies what came of it.
func (c *Client) ask(ctx context.Context, how func(exchange, context.Context, ...dhcpv4.Modifier) (*nclient4.Lease, error)) error {
	// Open for as long as it takes: a socket that nobody reads fills.
	e, err := c.connect()
	if err != nil {
		return err
	}
	defer e.Close()
	options := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(dhcpv4.OptionClasslessStaticRoute)}
	if c.Hostname != "" {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptHostName(c.Hostname)))
	}
	asked := time.Now()
	got, err := how(e, ctx, options...)
	if err != nil {
		return err
	}
	lease, renewal, err := parse(got.ACK)
	if err != nil {
		return err
	}
	c.acknowledged, c.renewal, c.end = got, time.Time{}, time.Time{}
	if lease.Duration != Forever {
		c.renewal, c.end = asked.Add(renewal), asked.Add(lease.Duration)
	}
	return c.Apply(lease)
}

func (c *Client) connect() (exchange, error) {
	if c.open != nil {
		return c.open()
	}
	e, err := nclient4.New(c.Interface, nclient4.WithTimeout(answerTime), nclient4.WithRetry(tries))
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	return e, nil
}
