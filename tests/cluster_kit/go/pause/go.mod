module stripedjob.test/pause

go 1.21

