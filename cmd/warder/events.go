package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"warder/secmon/event"
	"warder/secmon/event/store"
)

func eventsCommand() *cobra.Command {
	var (
		vms, kinds   []string
		since, until string
		output       string
	)
	cmd := &cobra.Command{
		Use:   "events DIR",
		Short: "Show the events that a host has kept",
		Long: `DIR is what "warder host --store" was given. A host that still writes there is not
disturbed: its directory is read as it is.`,
		Example: `  warder events --kind alert --since 1h /var/lib/warder/events
  warder events --vm web -o json /var/lib/warder/events`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			q := store.Query{VMs: vms}
			for _, name := range kinds {
				k, ok := event.KindOf(name)
				if !ok {
					return fmt.Errorf("--kind %s: there is no such kind; syscall, task, file, flow, packet, anomaly, guard, host, introspection, privileged, lifecycle, log, alert, loss are", name)
				}
				q.Kinds = append(q.Kinds, k)
			}
			var err error
			if q.From, err = moment("--since", since); err != nil {
				return err
			}
			if q.To, err = moment("--until", until); err != nil {
				return err
			}
			tty := coloured(os.Stdout)
			out := &printer{w: cmd.OutOrStdout(), json: output == "json", verbose: true, colour: tty}
			for e, err := range store.Read(args[0], q) {
				switch {
				case err != nil:
					return err
				case e.Kind == event.Alert:
					out.alert(e)
				default:
					out.event(e)
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&vms, "vm", nil, "only events of these VMs")
	f.StringSliceVar(&kinds, "kind", nil, "only events of these kinds, such as alert or syscall")
	f.StringVar(&since, "since", "", "only from then on: a time (RFC 3339), or how long ago, as 10m")
	f.StringVar(&until, "until", "", "only before then")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// moment reads a time, or how long ago it was; 0 stands for "".
func moment(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d).UnixNano(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, fmt.Errorf("%s %s: give a time as 2026-11-22T10:00:00Z, or how long ago as 10m", flag, s)
	}
	return t.UnixNano(), nil
}
