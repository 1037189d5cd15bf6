# shellcheck shell=bash
# Ruby: a child that compacts its heap, and one that dumps it
# needs: ruby ruby
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cat >heap.rb <<'END'
require "objspace"
require "digest"
table = Array.new(600_000) { |i| "value #{i}" }
want = Digest::MD5.hexdigest(table.join)
took = []
# Compacts what it shares, while the parent changes it.
children = 2.times.map do |n|
  read, write = IO.pipe
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC, :microsecond)
  pid = fork do
    read.close
    if n.zero?
      GC.compact
    else
      File.open("heap", "w") { |file| ObjectSpace.dump_all(output: file) }
      write.puts "no heap" unless File.read("heap").include?("value 599999")
    end
    write.puts Digest::MD5.hexdigest(table.join)
  end
  took << Process.clock_gettime(Process::CLOCK_MONOTONIC, :microsecond) - start
  write.close
  [pid, read]
end
table.map! { |s| s << "!" }
right = children.all? do |pid, read|
  answer = read.read.strip
  Process.wait(pid)
  $?.success? && answer == want
end
puts "fork took #{took.join(' and ')} us|#{right ? 'ok' : 'a child saw something else'}"
END

run() { try "GC.compact, ObjectSpace.dump_all" 2 - ruby heap.rb; }

both_ways
