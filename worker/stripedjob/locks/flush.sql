-- Deletes at most `keys` locks of the job, whoever holds them.
delete from @extschema@.lock
 where namespace = %(namespace)s and job_type = %(job_type)s
   and resource = any (array(
         select resource from @extschema@.lock
          where namespace = %(namespace)s and job_type = %(job_type)s
          order by resource collate "C"
          limit %(keys)s
            for update));
