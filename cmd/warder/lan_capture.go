package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"warder/secmon/lan/filter"
	"warder/supervisor/api"
)

// captureFlags say what to capture, and where to.
type captureFlags struct {
	pid   int
	write string
	snap  int
	count int
}

func lanCaptureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture [EXPRESSION]",
		Short: "Write what VMs send each other as a file of pcapng, for Wireshark",
		Long: `Write the frames between VMs as a file of pcapng, live, until Ctrl-C: to standard
output or with -w to a file. Each port in each VLAN is an interface of that
name; a comment says of each frame where it was going, and why the switch did not let it
pass if it did not. A segment of TCP that is still to be cut is one frame. What VMs and
the host say by vsock is of interfaces of its own.

EXPRESSION is in the language of tcpdump:

  host A, net A/N, port N, portrange A-B     src or dst before it for one side
  ether host M, broadcast, multicast
  ip, ip6, arp, tcp, udp, icmp, icmp6, proto N, tcp port N, ...
  tcp[tcpflags] & (tcp-syn|tcp-ack) != 0
  less N, greater N                          bytes
  and, or, not, ( )

and of warder's own:

  vlan N                                     the VLAN of the frame
  vm NAME, src vm NAME, dst vm NAME
  vsock                                      what goes between VMs and the host by vsock
  refused                                    what the switch does not let pass`,
		Example: `  warder lan capture | wireshark -k -i -
  warder lan capture -w dns.pcapng vm web and udp port 53
  warder lan capture refused | tshark -r -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			expression := strings.Join(args, " ")
			if _, err := filter.Parse(expression); err != nil {
				return fmt.Errorf("filter:\n%w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			if err := f.run(ctx, expression, cmd.OutOrStdout()); ctx.Err() == nil {
				return err
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.pid, "pid", 0, "process that has the LAN, where there are several")
	flags.StringVarP(&f.write, "write", "w", "-", "file to write, - for standard output")
	flags.IntVarP(&f.snap, "snap", "s", api.MaxSnap, "bytes of a frame to keep at most")
	flags.IntVarP(&f.count, "count", "c", 0, "frames to write, 0 for without end")
	return cmd
}

func (f *captureFlags) run(ctx context.Context, expression string, out io.Writer) (err error) {
	if f.write == "-" && out == os.Stdout && term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("a capture is nothing for a terminal: write it to a file with -w, or pipe it into tshark -r -")
	}
	l, err := api.FindTraffic(ctx, api.Dir(), f.pid)
	if err != nil {
		return err
	}
	defer l.Close()
	if f.write != "-" {
		file, err := os.OpenFile(f.write, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	q := url.Values{"filter": {expression}, "snap": {strconv.Itoa(f.snap)}}
	if f.count > 0 {
		q.Set("count", strconv.Itoa(f.count))
	}
	return l.Capture(ctx, q, out)
}
