<#
.SYNOPSIS
    Runs examples/slurm on a cluster of this one machine: slurmctld, slurmd and munged from Debian (apt install slurm-wlm munge).
.DESCRIPTION
    Eight parts, two of which are killed and queued again, and a node that is drained and resumed while parts wait. The model must have the
    bytes of one that this machine saves alone. Where Slurm is not installed, or the user is not root, that is said, and nothing is run.
.EXAMPLE
    ./build.ps1 Cluster
#>
[CmdletBinding()]
param(
    # How long all of it may take.
    [timespan] $Limit = '00:10:00'
)

$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
$root = Convert-Path "$PSScriptRoot/../.."
foreach ($tool in 'slurmctld', 'slurmd', 'sbatch', 'munged', 'strace') {
    if (-not (Get-Command $tool -ErrorAction Ignore)) { return "Skipped: Slurm on one node. There is no $tool here." }
}
if ((id -u) -ne 0) { return 'Skipped: Slurm on one node. Only root may start its daemons.' }

$work = Join-Path ([IO.Path]::GetTempPath()) "unslothmerge-slurm-$([guid]::NewGuid().ToString('N'))"
$null = New-Item "$work/spool", "$work/state", "$work/bin", "$work/modules", "$work/models" -ItemType Directory
$daemons = [Collections.Generic.List[Diagnostics.Process]]::new()
$deadline = [datetime]::UtcNow + $Limit

function Start-Daemon([string] $Program, [string[]] $Argument) {
    $daemons.Add((Start-Process $Program $Argument -PassThru -RedirectStandardOutput "$work/$Program.out" `
                -RedirectStandardError "$work/$Program.err"))
}

function Wait-Until([string] $What, [scriptblock] $Test) {
    while (-not (& $Test)) {
        if ([datetime]::UtcNow -gt $deadline) { throw "In time it did not come to this: $What.`n$(squeue -a | Out-String)" }
        Start-Sleep -Milliseconds 200
    }
    Write-Host "$What"
}

# The PowerShells that are at work on parts.
function Get-Worker { Get-Process dotnet, pwsh -ErrorAction Ignore | Where-Object CommandLine -Like "*part.ps1*$work*" }

function Get-Finished { @(Get-ChildItem "$work/models/.out.unslothmerge/shards" -Filter *.json -ErrorAction Ignore).Count }

# A PowerShell that knows the module, and writes slowly enough to be killed at work.
$pwsh = (Get-Process -Id $PID).Path
$host_ = if ((Split-Path $pwsh -Leaf) -like 'dotnet*') { "'$pwsh' '$PSHOME/pwsh.dll'" } else { "'$pwsh'" }
Set-Content "$work/bin/pwsh" "#!/bin/bash`nexec strace -f -qq -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=100000 $host_ `"`$@`""
chmod +x "$work/bin/pwsh"
$null = New-Item "$work/modules/UnslothMerge" -ItemType SymbolicLink -Value $root

Set-Content "$work/slurm.conf" @"
ClusterName=one
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmctldPort=$(Get-Random -Minimum 20000 -Maximum 30000)
SlurmdPort=$(Get-Random -Minimum 30001 -Maximum 40000)
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmdSpoolDir=$work/spool
StateSaveLocation=$work/state
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ReturnToService=2
JobRequeue=1
MinJobAge=600
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"@

$environment = @{
    SLURM_CONF = "$work/slurm.conf"; PATH = "$work/bin:$env:PATH"; PSModulePath = "$work/modules"; MAX_SHARD_SIZE = '2500'
}
$before = @{}
foreach ($name in $environment.Keys) { $before[$name] = [Environment]::GetEnvironmentVariable($name) }
$import = "Import-Module '$root/UnslothMerge.psd1'"
try {
    foreach ($name in $environment.Keys) { [Environment]::SetEnvironmentVariable($name, $environment[$name]) }
    [IO.File]::WriteAllBytes("$work/munge.key", [Security.Cryptography.RandomNumberGenerator]::GetBytes(128))
    chmod 600 "$work/munge.key"
    Start-Daemon munged '--foreground', '--force', "--socket=$work/munge.socket", "--key-file=$work/munge.key",
        "--pid-file=$work/munge.pid", "--log-file=$work/munge.log", "--seed-file=$work/munge.seed"
    Wait-Until 'munged listens' { Test-Path "$work/munge.socket" }
    Start-Daemon slurmctld '-D', '-f', "$work/slurm.conf"
    Start-Daemon slurmd '-D', '-f', "$work/slurm.conf", '-N', 'localhost'
    Wait-Until 'the node is idle' { (sinfo -h -o %T) -eq 'idle' }

    $base = "$root/tests/Fixtures/bases/llama-bf16"
    $adapter = "$root/tests/Fixtures/cases/lora-all-linear/adapter"
    $last = & "$root/examples/slurm/submit.sh" $base $adapter "$work/models/out" "--output=$work/part-%a.log" | Select-Object -Last 1
    $killed = 0
    while ($killed -lt 2) {
        Wait-Until "worker $($killed + 1) is there to be killed" { Get-Worker }
        Start-Sleep -Milliseconds 1500
        $worker = Get-Worker | Select-Object -First 1
        if ($worker) {
            $worker.Kill()
            $killed++
        }
    }

    scontrol update NodeName=localhost State=DRAIN Reason=test
    Wait-Until 'the node is drained' { (sinfo -h -o %T) -eq 'drained' }
    $pending = @(squeue -h -r -t PENDING -o %i).Count
    Write-Host "$pending jobs wait, $(Get-Finished) shards are finished"
    if ($pending -lt 2) { throw 'Nothing waited while the node was drained.' }
    scontrol update NodeName=localhost State=RESUME
    Wait-Until 'the model is complete' {
        # What was queued again would wait for two minutes.
        squeue -h -a -r -o '%i %r' | Where-Object { $_ -like '*BeginTime*' } | ForEach-Object {
            scontrol update "JobId=$($_.Split()[0])" StartTime=now
        }
        -not (squeue -h -j $last) -and (Test-Path "$work/models/out") }

    & $pwsh @(if ($host_ -like '*pwsh.dll*') { "$PSHOME/pwsh.dll" }) -NoProfile -Command `
        "$import; `$null = Merge-LoraModel '$base' '$adapter' | Save-MergedModel '$work/whole/out' -MaxShardSize 2500"
    diff -r "$work/whole/out" "$work/models/out"
    if (Get-ChildItem "$work/models" -Force -Filter '.*') { throw 'Something is left beside the model.' }
    $shards = @(Get-ChildItem "$work/models/out/*.safetensors").Count
    "Slurm on one node: 8 parts, $killed of them killed, made the $shards shards of one machine."
}
catch {
    Get-ChildItem "$work/*.log", "$work/*.err" | ForEach-Object { "--- $_"; Get-Content $_ -Tail 15 } | Write-Host
    throw
}
finally {
    $daemons.Reverse()
    foreach ($daemon in $daemons) { $daemon.Kill(); $daemon.WaitForExit() }
    foreach ($name in $before.Keys) { [Environment]::SetEnvironmentVariable($name, $before[$name]) }
    Remove-Item $work -Recurse -Force -ErrorAction Ignore
}
